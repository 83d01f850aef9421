//! The bytes of text tables, plain or compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use super::format::Compression;

/// The level of Zstandard, and of gzip: fast, and close to the best in size on text.
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;

/// Opens a file to be read as text.
///
/// # Errors
/// Fails when the file cannot be opened.
pub(super) fn reader(path: &Path, compression: Compression) -> io::Result<Box<dyn BufRead + Send>> {
    let file = BufReader::new(File::open(path)?);
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        Compression::Zstd => Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?)),
    })
}

/// Writes text to a file, or wherever bytes can go.
pub(crate) enum Encoder<W: Write = File> {
    Plain(BufWriter<W>),
    Gzip(BufWriter<flate2::write::GzEncoder<W>>),
    Zstd(BufWriter<zstd::Encoder<'static, W>>),
}

impl Encoder {
    /// Begins a file, in place of one that may be there.
    ///
    /// # Errors
    /// Fails when the file cannot be made.
    pub(super) fn create(path: &Path, compression: Compression) -> io::Result<Self> {
        Self::new(File::create(path)?, compression)
    }
}

impl<W: Write> Encoder<W> {
    /// Begins a stream.
    ///
    /// # Errors
    /// Fails when the compressor cannot be set up.
    pub(crate) fn new(out: W, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(BufWriter::new(out)),
            Compression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(BufWriter::new(flate2::write::GzEncoder::new(out, level)))
            }
            Compression::Zstd => Self::Zstd(BufWriter::new(zstd::Encoder::new(out, ZSTD_LEVEL)?)),
        })
    }

    /// Ends the compressed stream and hands back where it went.
    ///
    /// # Errors
    /// Fails when what is buffered cannot be written.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => out.into_inner().map_err(io::IntoInnerError::into_error),
            Self::Gzip(out) => out.into_inner().map_err(io::IntoInnerError::into_error)?.finish(),
            Self::Zstd(out) => out.into_inner().map_err(io::IntoInnerError::into_error)?.finish(),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(out) => out,
            Self::Gzip(out) => out,
            Self::Zstd(out) => out,
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}
