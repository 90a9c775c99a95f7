//! One declaration for a section of the configuration: field, type, default and documentation stand together, and reading, defaults,
//! known keys and the reference file all come from it.

use serde::Serialize;

/// A part of the reference file.
pub struct Reference {
    pub text: String,
}

impl Reference {
    pub fn section(&mut self, name: &str, doc: &[&str]) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.comment(doc);
        self.text.push_str(&format!("[{name}]\n"));
    }

    pub fn key<T: Serialize>(&mut self, name: &str, doc: &[&str], value: &T) {
        self.comment(doc);
        // The defaults are strings, numbers and lists of strings, all of which TOML can write; the test of the reference file reads all of them back.
        let value = toml::Value::try_from(value).map_or_else(|e| format!("\"{e}\""), |value| value.to_string());
        self.text.push_str(&format!("{name} = {value}\n"));
    }

    fn comment(&mut self, doc: &[&str]) {
        for line in doc {
            self.text.push('#');
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }
}

/// Declares a section.
///
/// Every field needs a default, so a file may leave out whatever it likes; unknown keys are refused.
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

        impl $name {
            pub(super) fn reference(out: &mut $crate::config::section::Reference, name: &str) {
                let defaults = $name::default();
                out.section(name, &[$($section_doc),*]);
                $( out.key(stringify!($field), &[$($doc),*], &defaults.$field); )+
            }
        }
    };
}

pub(super) use section;
