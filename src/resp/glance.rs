//! A look ahead at requests that have arrived, for whoever can use the time until they run.

/// The second to fourth arguments (empty: none) of the requests at the beginning of some input. Nearly
/// every command has its (first) key in the second. Ends at the first request that is not there
/// whole, has no second argument or is not a multibulk. What it says is a hint: the [`super::Parser`] has the last word.
#[derive(Clone, Debug)]
pub struct Glance<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Glance<'a> {
    pub fn new(input: &'a [u8]) -> Glance<'a> {
        Glance { input, at: 0 }
    }

    /// The number on a line that begins with `sign`; goes to the line behind it.
    #[inline]
    fn header(&mut self, sign: u8) -> Option<usize> {
        /// Longer numbers are not worth a hint.
        const DIGITS_MAX: usize = 6;
        let line = self.input.get(self.at..)?;
        if *line.first()? != sign {
            return None;
        }
        let mut number = 0;
        for (digits, &byte) in line[1..].iter().take(DIGITS_MAX + 1).enumerate() {
            match byte {
                b'0'..=b'9' => number = number * 10 + usize::from(byte - b'0'),
                b'\r' if digits > 0 => {
                    self.at += digits + 3;
                    return Some(number);
                }
                _ => return None,
            }
        }
        None
    }
}

impl<'a> Iterator for Glance<'a> {
    type Item = [&'a [u8]; 3];

    fn next(&mut self) -> Option<[&'a [u8]; 3]> {
        let count = self.header(b'*')?;
        let mut seen: [&[u8]; 3] = [b""; 3];
        for i in 0..count {
            let len = self.header(b'$')?;
            let arg = self.input.get(self.at..self.at + len)?;
            self.at += len + 2;
            if (1..=seen.len()).contains(&i) {
                seen[i - 1] = arg;
            }
        }
        (count > 1 && self.at <= self.input.len()).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_seen_until_something_is_odd() {
        let seen = |input: &str| {
            let requests = Glance::new(input.as_bytes());
            let words = requests.flatten().filter(|word| !word.is_empty());
            let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
            words.join(" ")
        };
        let get = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        let set = "*3\r\n$3\r\nSET\r\n$2\r\nbc\r\n$3\r\nxyz\r\n";
        let ping = "*1\r\n$4\r\nPING\r\n";
        assert_eq!(seen(&[get, set, get].concat()), "a bc xyz a");
        assert_eq!(seen(&[set, ping, set].concat()), "bc xyz");
        for end in 0..set.len() {
            assert_eq!(seen(&[get, &set[..end]].concat()), "a", "{end}");
        }
        for odd in [
            "GET a\r\n",
            "*x\r\n",
            "*2\r\n$-1\r\n",
            "*2\r\n$3\r\nGET\r\n:1\r\n",
            "*99999999\r\n",
        ] {
            assert_eq!(seen(&[get, odd, get].concat()), "a", "{odd:?}");
        }
    }
}
