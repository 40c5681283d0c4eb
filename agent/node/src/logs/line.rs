//! One line of a CRI log: `TIME stdout|stderr F|P TEXT`. P marks a part of a long line; the next one continues it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a str,
    pub stream: Stream,
    pub partial: bool,
    pub content: &'a [u8],
}

impl<'a> Line<'a> {
    pub fn text(&self) -> &'a str {
        std::str::from_utf8(self.content).unwrap_or_default()
    }
}

/// `None` for what is not a line of a CRI log. The line's end is not part of the content.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (time, rest) = split(line)?;
    let (stream, rest) = split(rest)?;
    let (tags, content) = split(rest).unwrap_or((rest, b""));
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let first = tags.split(|byte| *byte == b':').next()?;
    let partial = match first {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let time = std::str::from_utf8(time).ok().filter(|time| time.len() >= 20)?;
    Some(Line { time, stream, partial, content })
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    Some((&line[..at], &line[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = parse(b"2026-01-02T03:04:05.123456789Z stderr P half a line\n").unwrap();
        assert_eq!((line.stream, line.partial, line.text()), (Stream::Stderr, true, "half a line"));
        let empty = parse(b"2026-01-02T03:04:05.123456789Z stdout F \n").unwrap();
        assert_eq!(empty.content, b"");
        for bad in
            [&b""[..], b"x", b"2026-01-02T03:04:05Z other F x", b"t stdout F x", b"2026-01-02T03:04:05Z stdout X x"]
        {
            assert_eq!(parse(bad), None);
        }
    }
}
