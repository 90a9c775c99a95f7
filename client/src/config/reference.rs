//! The reference file, generated from the declarations of the sections.

use super::{Elastic, Exchange, Executor, Files, Log, Primary, Query};
use serde::Serialize;
use windlass_core::settings::{Reference, Section};

const HEAD: &str = "\
# Windlass: every setting with its default. Print this file with 'windlass config'; name yours with --config FILE or
# WINDLASS_CONFIG. Leave out what you do not change. Flags win over the file. Sizes: \"512MiB\", \"1.5GiB\", \"10GB\";
# durations: \"500ms\", \"2s\", \"1h30m\".
";

pub(super) fn text() -> String {
    let mut file = Text(HEAD.to_owned());
    file.section::<Primary>("primary");
    file.section::<Executor>("executor");
    file.section::<Elastic>("elastic");
    file.section::<Files>("files");
    file.section::<Exchange>("exchange");
    file.section::<Query>("query");
    file.section::<Log>("log");
    file.0
}

struct Text(String);

impl Text {
    fn section<S: Section>(&mut self, name: &str) {
        self.0.push('\n');
        self.comment(S::DOC);
        self.0.push_str(&format!("[{name}]\n"));
        S::keys(self);
    }

    fn comment(&mut self, doc: &[&str]) {
        for line in doc {
            self.0.push('#');
            self.0.push_str(line.trim_end());
            self.0.push('\n');
        }
    }
}

impl Reference for Text {
    fn key<T: Serialize>(&mut self, name: &str, doc: &[&str], default: &T) {
        self.comment(doc);
        // TOML can express all defaults; the test of the reference file reads them back.
        let value = toml::Value::try_from(default).map_or_else(|e| format!("\"{e}\""), |value| value.to_string());
        self.0.push_str(&format!("{name} = {value}\n"));
    }
}
