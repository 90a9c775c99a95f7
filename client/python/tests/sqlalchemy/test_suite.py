"""SQLAlchemy's own tests of dialects. requirements.py says what is left out, and why; the rest is below."""

from sqlalchemy import testing
from sqlalchemy.testing.suite import *  # noqa: F403
from sqlalchemy.testing.suite import ExceptionTest as _ExceptionTest
from sqlalchemy.testing.suite import InsertBehaviorTest as _InsertBehaviorTest

# They make indexes, and there are none.
del QuotedNameArgumentTest, LongNameBlowoutTest, HasIndexTest  # noqa: F821


class ExceptionTest(_ExceptionTest):
    @testing.skip("windlass", "keys are not checked")
    def test_integrity_error(self):
        pass


class InsertBehaviorTest(_InsertBehaviorTest):
    @testing.skip("windlass", "a key is given")
    def test_insert_from_select_autoinc(self):
        pass

    @testing.skip("windlass", "a key is given")
    def test_no_results_for_non_returning_insert(self):
        pass
