//! The top level of a JSON object as slices, so that rows pass without being read. Layer 5, pure.

use bytes::Bytes;

/// The members of an object, in order: name and the bytes of the value. `None`: it is no object.
pub(super) fn members(body: &Bytes) -> Option<Vec<(String, Bytes)>> {
    let mut reader = Reader { bytes: body, at: 0 };
    reader.blank();
    reader.expect(b'{')?;
    let mut members = Vec::new();
    reader.blank();
    if reader.peek()? == b'}' {
        reader.at += 1;
    } else {
        loop {
            reader.blank();
            let begin = reader.at;
            reader.string()?;
            let name = serde_json::from_slice(body.get(begin..reader.at)?).ok()?;
            reader.blank();
            reader.expect(b':')?;
            reader.blank();
            let begin = reader.at;
            reader.value()?;
            // What is a text's sub-slice shares its memory.
            let end = reader.at;
            members.push((name, (begin < end).then(|| body.slice(begin..end))?));
            reader.blank();
            match reader.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
    }
    reader.blank();
    (reader.at == body.len()).then_some(members)
}

/// The elements of a list, in order. `None`: it is no list.
pub(super) fn elements(list: &Bytes) -> Option<Vec<Bytes>> {
    let mut reader = Reader { bytes: list, at: 0 };
    reader.blank();
    reader.expect(b'[')?;
    let mut elements = Vec::new();
    reader.blank();
    if reader.peek()? == b']' {
        reader.at += 1;
    } else {
        loop {
            reader.blank();
            let begin = reader.at;
            reader.value()?;
            let end = reader.at;
            elements.push((begin < end).then(|| list.slice(begin..end))?);
            reader.blank();
            match reader.next()? {
                b',' => {}
                b']' => break,
                _ => return None,
            }
        }
    }
    reader.blank();
    (reader.at == list.len()).then_some(elements)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => {
                    self.next()?;
                }
                _ => {}
            }
        }
    }

    /// A value: brackets are counted, strings passed over whole.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_u32;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    // The end of the object around a plain value.
                    if depth == 0 {
                        return Some(());
                    }
                    depth -= 1;
                    self.at += 1;
                }
                b',' if depth == 0 => return Some(()),
                b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return Some(()),
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Option<Vec<(String, String)>> {
        let members = members(&Bytes::from(text.to_owned()))?;
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        Some(members.iter().map(|(name, value)| (name.clone(), text(value))).collect())
    }

    #[test]
    fn values_are_cut_out_as_they_stand() {
        let text =
            r#" {"a" : 1, "rows":[{"f":[{"v":"}],\"x\\"}]}] ,"b":"c,}","d":{ }, "e\n":true} "#;
        let found = split(text).unwrap();
        let expected = [
            ("a", "1"),
            ("rows", r#"[{"f":[{"v":"}],\"x\\"}]}]"#),
            ("b", r#""c,}""#),
            ("d", "{ }"),
            ("e\n", "true"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
        assert!(split("{}").unwrap().is_empty());
    }

    #[test]
    fn a_list_is_cut_into_its_elements() {
        let cut = |text: &str| {
            let list = elements(&Bytes::from(text.to_owned()))?;
            Some(
                list.iter().map(|one| String::from_utf8(one.to_vec()).unwrap()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(cut(r#" [ {"a":"],"} , 1,[2] ] "#).unwrap(), [r#"{"a":"],"}"#, "1", "[2]"]);
        assert_eq!(cut("[]").unwrap(), Vec::<String>::new());
        for text in ["", "{}", "[", "[1", "[1,]", "[,]", "[1]x", "[1 2]"] {
            assert!(cut(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "",
            "[]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1}x",
            "{\"a\":\"b}",
            "{a:1}",
            "{\"a\":1 2}",
        ] {
            assert!(split(text).is_none(), "{text}");
        }
    }
}
