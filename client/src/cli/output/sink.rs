//! Destinations of results: standard output, a file that appears whole or not at all, or a FIFO or a device.

use super::Format;
use crate::cli::local_file::{self, Target};
use crate::error::{ClientError, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};

/// An output for any number of result sets.
pub struct Sink {
    to: To,
    format: Format,
    results: usize,
    /// Number of complete results.
    complete: usize,
}

enum To {
    Stdout(BufWriter<io::Stdout>),
    /// A target that is no regular file.
    Straight(BufWriter<File>),
    File {
        out: BufWriter<File>,
        temporary: PathBuf,
        path: PathBuf,
        /// Offset of the end of the last complete result.
        whole: u64,
        published: bool,
    },
}

impl Sink {
    pub fn stdout(format: Format) -> Result<Sink> {
        if format == Format::Parquet && io::stdout().is_terminal() {
            return Err(ClientError::invalid("parquet is binary and the output is a terminal: name a file with -o"));
        }
        Ok(Sink { to: To::Stdout(BufWriter::with_capacity(64 << 10, io::stdout())), format, results: 0, complete: 0 })
    }

    /// Writes to a temporary file beside `path`, or beside the target of a link; [`Sink::publish`] renames it. A target that is no regular file is written
    /// directly.
    pub fn file(path: &Path, format: Format) -> Result<Sink> {
        let refused = |e: io::Error| {
            let reason = match e.kind() {
                io::ErrorKind::IsADirectory | io::ErrorKind::NotFound => "name a file, not a folder".to_string(),
                _ => e.to_string(),
            };
            ClientError::invalid(format!("cannot write the result to {}: {reason}", path.display()))
        };
        let to = match local_file::target(path).map_err(refused)? {
            Target::Straight => {
                let out = local_file::straight(path).map_err(ClientError::io(format!("open {}", path.display())))?;
                To::Straight(BufWriter::with_capacity(64 << 10, out))
            }
            Target::File(path) => {
                let beside = local_file::beside(&path, &std::process::id().to_string(), "partial", false);
                let (temporary, out) =
                    beside.map_err(ClientError::io(format!("create a file beside {}", path.display())))?;
                let out = BufWriter::with_capacity(256 << 10, out);
                To::File { out, temporary, path, whole: 0, published: false }
            }
        };
        Ok(Sink { to, format, results: 0, complete: 0 })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Sets the format of later results, at the same destination. A file that has results in it keeps its format.
    pub fn set_format(&mut self, format: Format) -> Result<()> {
        if !matches!(self.to, To::Stdout(_)) && self.results > 0 && format != self.format {
            return Err(ClientError::invalid("the output file has results in another format: close it with \\o first"));
        }
        self.format = format;
        Ok(())
    }

    /// Begins the next result set and returns its destination.
    pub fn next_result(&mut self) -> Result<&mut (dyn Write + Send)> {
        self.results += 1;
        if self.format == Format::Parquet && self.results > 1 {
            return Err(ClientError::invalid(
                "a parquet file holds one result and this is the second: write each to a file of its own",
            ));
        }
        Ok(self.out())
    }

    fn out(&mut self) -> &mut (dyn Write + Send) {
        match &mut self.to {
            To::Stdout(out) => out,
            To::Straight(out) => out,
            To::File { out, .. } => out,
        }
    }

    pub fn flush(&mut self) -> Result<()> {
        self.out().flush().map_err(ClientError::io("write the result"))
    }

    /// Ends a result that was written completely.
    pub fn end_result(&mut self) -> Result<()> {
        self.flush()?;
        self.complete += 1;
        if let To::File { out, whole, .. } = &mut self.to {
            *whole = out.stream_position().map_err(ClientError::io("write the result"))?;
        }
        Ok(())
    }

    /// Publishes all complete results. Without any, no file is created and an existing one stays unchanged; an incomplete result is left out.
    pub fn publish(mut self) -> Result<()> {
        self.flush()?;
        if let (To::File { path, .. }, Format::Parquet, 0) = (&self.to, self.format, self.results) {
            let path = path.display();
            return Err(ClientError::invalid(format!(
                "no statement had a result, and {path} would be no parquet file without one"
            )));
        }
        if self.complete == 0 {
            return Ok(());
        }
        if let To::File { out, temporary, path, whole, published } = &mut self.to {
            out.get_ref().set_len(*whole).map_err(ClientError::io("write the result"))?;
            fs::rename(temporary, &path).map_err(ClientError::io(format!("name the result {}", path.display())))?;
            *published = true;
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let To::File { temporary, published: false, .. } = &self.to {
            // Best effort: the name of a remaining partial file shows what it is.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("windlass-sink-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = folder("whole");
        let path = folder.join("result.csv");
        let mut sink = Sink::file(&path, Format::Csv).unwrap();
        sink.next_result().unwrap().write_all(b"a\n1\n").unwrap();
        assert!(!path.exists());
        drop(sink);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

        let mut sink = Sink::file(&path, Format::Csv).unwrap();
        sink.next_result().unwrap().write_all(b"a\n1\n").unwrap();
        sink.end_result().unwrap();
        // An incomplete result.
        sink.next_result().unwrap().write_all(b"b\n").unwrap();
        sink.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n1\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

        // Nothing was written: the existing file stays.
        Sink::file(&path, Format::Csv).unwrap().publish().unwrap();
        let mut sink = Sink::file(&path, Format::Csv).unwrap();
        sink.next_result().unwrap().write_all(b"a\n").unwrap();
        sink.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n1\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_second_result_does_not_fit_into_a_parquet_file() {
        let folder = folder("second");
        let mut sink = Sink::file(&folder.join("x.parquet"), Format::Parquet).unwrap();
        assert!(sink.next_result().is_ok());
        assert!(sink.next_result().is_err());
        drop(sink);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let error = Sink::file(Path::new("/nowhere/at/all.csv"), Format::Csv).err().unwrap().to_string();
        assert!(error.contains("/nowhere/at"), "{error}");
    }
}
