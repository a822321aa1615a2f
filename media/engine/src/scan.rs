//! Searching for the start code prefix `00 00 01` (ISO/IEC 13818-1 §2.5, H.264 annex B) at a cost per byte that does
//! not depend on the content.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

/// Index of the first `00 00 01` at or after `from`. Looks at every third byte of ordinary data and never twice at a
/// byte it has passed, so hostile data costs at most three times as many steps.
#[must_use]
pub fn prefix(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(&[a, b, c]) = data.get(at..).and_then(<[u8]>::first_chunk::<3>) {
        if c > 1 {
            at += 3;
        } else if c == 0 {
            at += 1;
        } else if a == 0 && b == 0 {
            return Some(at);
        } else {
            at += 3;
        }
    }
    None
}

/// Index of the first `00 00 01 xx` with `xx` ≥ `least` at or after `from`: a start code of the system layer, which no
/// elementary stream contains. Steps as `prefix` does.
#[must_use]
pub fn code(data: &[u8], from: usize, least: u8) -> Option<usize> {
    let mut at = from;
    while let Some(&[a, b, c, id]) = data.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        if c > 1 {
            at += 3;
        } else if c == 0 {
            at += 1;
        } else if (a | b) == 0 && id >= least {
            return Some(at);
        } else {
            at += 3;
        }
    }
    None
}

/// How many bytes at the end of `data` (0 to 3) could be the beginning of `00 00 01 xx`.
#[must_use]
pub fn partial_prefix(data: &[u8]) -> usize {
    match *data {
        [.., 0, 0, 1] => 3,
        [.., 0, 0] => 2,
        [.., 0] => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(data: &[u8], from: usize) -> Option<usize> {
        (from..data.len().saturating_sub(2)).find(|&at| data[at..at + 3] == [0, 0, 1])
    }

    #[test]
    fn agrees_with_the_naive_search_on_every_short_string() {
        for length in 0..9_u32 {
            for number in 0..3_usize.pow(length) {
                let data: Vec<u8> = (0..length).map(|digit| (number / 3_usize.pow(digit) % 3) as u8).collect();
                for from in 0..=data.len() {
                    let coded = (from..data.len().saturating_sub(3)).find(|&at| data[at..at + 4] == [0, 0, 1, 2]);
                    assert_eq!(code(&data, from, 2), coded, "{data:?} from {from}");
                    assert_eq!(prefix(&data, from), naive(&data, from), "{data:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn partial_prefixes() {
        let cases: [(&[u8], usize); 6] =
            [(&[], 0), (&[7], 0), (&[7, 0], 1), (&[0, 0], 2), (&[9, 0, 0, 1], 3), (&[0, 1], 0)];
        for (data, expected) in cases {
            assert_eq!(partial_prefix(data), expected, "{data:?}");
        }
    }
}
