//! What LMPOP and ZMPOP, and BLMPOP and BZMPOP, take beside their keys.

use crate::resp::{Args, CmdError};

/// From where and how many, after the keys of `numkeys key ... where [COUNT count]`; `numkeys` is the
/// argument that counts the keys, and `place` reads `where`.
pub fn options<P>(
    args: &Args,
    numkeys: usize,
    place: impl Fn(&Args, usize) -> Option<P>,
) -> Result<(P, usize), CmdError> {
    let keys = args.int(numkeys).ok().filter(|&n| n > 0);
    let keys = keys.ok_or(CmdError::Text("ERR numkeys should be greater than 0"))? as usize;
    let at = numkeys.saturating_add(keys).saturating_add(1);
    if at >= args.len() {
        return Err(CmdError::Syntax);
    }
    let place = place(args, at).ok_or(CmdError::Syntax)?;
    let count = match args.len() - at {
        1 => 1,
        3.. if args.is(at + 1, "count") => {
            let count = args.int(at + 2).ok().filter(|&n| n > 0);
            let count = count.ok_or(CmdError::Text("ERR count should be greater than 0"))?;
            if args.len() - at > 3 {
                return Err(CmdError::Syntax);
            }
            count as usize
        }
        _ => return Err(CmdError::Syntax),
    };
    Ok((place, count))
}
