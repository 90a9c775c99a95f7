//! Sections of the configuration file. Each crate declares its own with [`section!`](crate::section): field, type, default and documentation stand together,
//! and reading, defaults, known keys and the reference file all come from the declaration.

pub mod check;
pub mod units;

use serde::Serialize;

/// A part of the configuration file.
pub trait Section: Default {
    /// Description of the section, one entry for each line.
    const DOC: &'static [&'static str];

    /// Passes each key with its documentation and its default to `reference`, in the order of declaration.
    fn keys(reference: &mut impl Reference);
}

/// Receives the keys of a section.
pub trait Reference {
    fn key<T: Serialize>(&mut self, name: &str, doc: &[&str], default: &T);
}

/// Declares a section.
///
/// Every field needs a default, so a file may leave out any field; unknown keys are refused. The crate needs `serde` with its macros.
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $name:ident {
            $( $(#[doc = $doc:literal])* $field:ident : $type:ty = $default:expr; )+
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $default, )+ }
            }
        }

        impl $crate::settings::Section for $name {
            const DOC: &'static [&'static str] = &[$($section_doc),*];

            fn keys(reference: &mut impl $crate::settings::Reference) {
                let defaults = $name::default();
                $( reference.key(stringify!($field), &[$($doc),*], &defaults.$field); )+
            }
        }
    };
}
