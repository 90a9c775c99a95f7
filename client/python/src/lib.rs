//! The native part of the Python package `windlass`: sessions of the Rust client. The Python files beside it are what users see.
//!
//! Every call waits on a runtime of the module, without the interpreter's lock, and looks for signals while it waits, so Ctrl-C ends it.

mod errors;
mod rows;
mod session;
mod waiting;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("version", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<session::Session>()?;
    module.add_class::<rows::Rows>()?;
    module.add_function(wrap_pyfunction!(session::connect, module)?)
}
