//! A value behind one pointer whose type the compiler need not look into, and which is freed with room on the stack.
//!
//! Every handler of a request is a boxed future that must be `Send`, and the compiler proves that anew for each by walking all that
//! the handler holds. For SQL's syntax trees, plans and sessions that walk takes seconds: minutes for this crate. Here it ends.

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
        // `new` is the only way to make one, and puts a T there.
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
