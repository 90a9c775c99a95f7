//! What the faces of the primary offer, whoever asks and in whatever language.

pub(crate) mod submissions;
