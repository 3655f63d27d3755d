//! Which addresses a lab takes: a block of 10.0.0.0/8 that nothing on this machine leads to.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::error::LabError;

/// The first block looked at. Below are those that people and programs like to take.
const FIRST: u8 = 96;

/// The second octet of a block `10.N.0.0/16` that no route of this machine leads to.
///
/// # Errors
/// When the routes cannot be read, or all blocks are taken.
pub(crate) fn free_block() -> Result<u8, LabError> {
    let path = Path::new("/proc/net/route");
    let routes =
        std::fs::read_to_string(path).map_err(|source| LabError::File { action: "read", path: path.into(), source })?;
    first_free(&routes).ok_or(LabError::NoAddresses)
}

/// By the kernel's own list: words in columns, addresses in hexadecimal digits of this machine's byte order.
fn first_free(routes: &str) -> Option<u8> {
    let taken: Vec<(u32, u32)> = routes.lines().filter_map(route).filter(|(_, mask)| *mask != 0).collect();
    (FIRST..=255).find(|block| {
        let (address, mask) = (u32::from(Ipv4Addr::new(10, *block, 0, 0)), 0xffff_0000);
        // Two networks have addresses in common when they agree where both have bits.
        taken.iter().all(|(other, theirs)| (address ^ other) & mask & theirs != 0)
    })
}

fn route(line: &str) -> Option<(u32, u32)> {
    let mut words = line.split_whitespace();
    let (destination, mask) = (words.nth(1)?, words.nth(5)?);
    let number = |word: &str| u32::from_str_radix(word, 16).map(|number| u32::from_be_bytes(number.to_ne_bytes())).ok();
    Some((number(destination)?, number(mask)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_that_something_leads_to_is_not_taken() {
        assert_eq!(first_free(""), Some(96));
        // The default route, 10.96.1.0/24, 10.97.0.0/16, 172.17.0.0/16.
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      br1\t0001600A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                      br2\t0000610A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                      docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(first_free(routes), Some(98));
        let all_of_ten = "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        assert_eq!(first_free(all_of_ten), None);
    }

    proptest! {
        #[test]
        fn any_text_can_be_looked_at(text in ".*") {
            let _ = first_free(&text);
        }
    }
}
