//! A value behind one pointer that hides its type from the compiler, and that is freed on a large stack.
//!
//! Every handler of a request is a boxed future that must be `Send`. The compiler proves that for each handler by walking everything
//! that it holds. For SQL's syntax trees, plans and sessions that walk takes seconds, and minutes for this crate. It ends at this type.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use windlass_engine::room::Roomy;

pub(crate) struct Erased<T> {
    value: Arc<dyn Any + Send + Sync>,
    of: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> Erased<T> {
    pub fn new(value: T) -> Self {
        Self { value: Arc::new(Roomy::new(value)), of: PhantomData }
    }
}

impl<T: 'static> Deref for Erased<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // Only `new` creates one, from a T.
        let value: &Roomy<T> = self.value.downcast_ref().expect("the value is of the type that it was made of");
        value
    }
}

impl<T> Clone for Erased<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), of: PhantomData }
    }
}

impl<T: fmt::Debug + 'static> fmt::Debug for Erased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}
