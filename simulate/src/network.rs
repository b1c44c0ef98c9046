//! Where calls come from.
//!
//! Blocks are drawn anew by each seed within the first octets that each kind of network is known
//! for, so an address database sees plausible owners and no rule can learn one list by heart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use telltale_schema::time::{DAY, HOUR, Micros};

use crate::clock;
use crate::dice::{Dice, Purpose};

/// A /16.
pub(crate) type Block = [u8; 2];

/// Kinds of networks, by the first octets that they have.
pub(crate) const AWS: &[u8] = &[3, 18, 52, 54];
pub(crate) const GOOGLE: &[u8] = &[34, 35];
pub(crate) const AZURE: &[u8] = &[4, 13, 20, 40];
pub(crate) const HOSTING: &[u8] = &[45, 51, 91, 95, 104, 139, 146, 159, 165, 178, 185, 193, 194];
pub(crate) const RESIDENTIAL: &[u8] = &[24, 62, 71, 73, 77, 78, 81, 84, 86, 88, 98, 109, 151, 188];
pub(crate) const CORPORATE: &[u8] = &[82, 83, 87, 131, 145, 192, 195, 207, 212, 213, 217];

/// `count` blocks of one kind of network.
pub(crate) fn blocks(dice: &mut Dice, kind: &[u8], count: usize) -> Vec<Block> {
    (0..count).map(|_| [*dice.pick(kind), dice.range(1, 254) as u8]).collect()
}

pub(crate) fn address_in(dice: &mut Dice, block: Block) -> IpAddr {
    let host = dice.range(1, 254) as u8;
    IpAddr::V4(Ipv4Addr::new(block[0], block[1], dice.range(0, 255) as u8, host))
}

/// An address in any block of this kind.
pub(crate) fn anywhere(dice: &mut Dice, kind: &[u8]) -> IpAddr {
    let block = blocks(dice, kind, 1)[0];
    address_in(dice, block)
}

/// From where an actor calls.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A few stable addresses behind which everything leaves.
    Egress(Vec<IpAddr>),
    /// Another address for every visit, in any of these blocks.
    Pool(Vec<Block>),
    /// A private address that stays with the instance, in 10.x/16.
    Private(u8),
    /// An address that stays with the instance for its life, public.
    Instances(Block),
    /// Somebody with an office, a home and a telephone.
    Person { office: IpAddr, home: Block, v6: bool, mobile: Block, remote: f64 },
}

/// Whom a place is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub seed: u64,
    pub actor: usize,
    pub instance: u64,
    pub at: Micros,
}

impl Place {
    pub(crate) fn address(&self, caller: Caller, dice: &mut Dice) -> IpAddr {
        let mut own =
            Dice::at(caller.seed, Purpose::Address, caller.actor as u64, caller.instance + 1);
        match self {
            Place::Egress(addresses) => *dice.favour(addresses),
            Place::Pool(blocks) => {
                let block = *dice.pick(blocks);
                address_in(dice, block)
            }
            Place::Private(second) => address_in(&mut own, [10, *second]),
            Place::Instances(block) => address_in(&mut own, *block),
            Place::Person { office, home, v6, mobile, remote } => {
                let hour = clock::local_hour(caller.at, 0);
                let day = caller.at.div_euclid(DAY) as u64;
                let mut today = Dice::at(caller.seed, Purpose::Address, caller.actor as u64, day);
                let away = today.chance(*remote) || clock::weekday(caller.at) > 4 || hour < 5;
                if dice.chance(0.02) {
                    return address_in(dice, *mobile);
                }
                if !away {
                    return *office;
                }
                // Home lines get another address every few weeks.
                let lease = caller.at.div_euclid(19 * DAY + 7 * HOUR) as u64;
                let mut line = Dice::at(caller.seed, Purpose::Address, lease, caller.actor as u64);
                match (address_in(&mut line, *home), *v6) {
                    (IpAddr::V4(v4), true) => {
                        let [a, b, c, d] = v4.octets().map(u16::from);
                        IpAddr::V6(Ipv6Addr::new(0x2a02, a << 8 | b, c, d, 0, 0, 0, 0x1f))
                    }
                    (v4, _) => v4,
                }
            }
        }
    }
}

/// A city, for logs that say where an address is.
#[derive(Debug)]
pub(crate) struct City {
    pub name: &'static str,
    pub state: &'static str,
    pub country: &'static str,
    pub postal: &'static str,
    pub latitude: f64,
    pub longitude: f64,
    /// Hours ahead of UTC.
    pub ahead: i64,
}

const fn city(
    name: &'static str,
    state: &'static str,
    country: &'static str,
    postal: &'static str,
    position: (f64, f64),
    ahead: i64,
) -> City {
    City { name, state, country, postal, latitude: position.0, longitude: position.1, ahead }
}

pub(crate) static CITIES: &[City] = &[
    city("Berlin", "Land Berlin", "Germany", "10115", (52.532, 13.384), 1),
    city("Amsterdam", "North Holland", "Netherlands", "1012", (52.374, 4.89), 1),
    city("London", "England", "United Kingdom", "EC1A", (51.52, -0.097), 0),
    city("Dublin", "Leinster", "Ireland", "D02", (53.344, -6.267), 0),
    city("Madrid", "Madrid", "Spain", "28001", (40.417, -3.684), 1),
    city("Stockholm", "Stockholm County", "Sweden", "111 20", (59.333, 18.065), 1),
    city("New York", "New York", "United States", "10001", (40.75, -73.997), -5),
    city("Austin", "Texas", "United States", "78701", (30.271, -97.743), -6),
    city("Toronto", "Ontario", "Canada", "M5H", (43.65, -79.384), -5),
    city("San Francisco", "California", "United States", "94105", (37.789, -122.395), -8),
    city("Bengaluru", "Karnataka", "India", "560001", (12.976, 77.603), 5),
    city("Singapore", "Singapore", "Singapore", "048619", (1.283, 103.851), 8),
    city("Sydney", "New South Wales", "Australia", "2000", (-33.868, 151.207), 10),
    city("São Paulo", "São Paulo", "Brazil", "01310", (-23.561, -46.656), -3),
    city("Kyiv", "Kyiv City", "Ukraine", "01001", (50.45, 30.524), 2),
    city("Istanbul", "Istanbul", "Turkey", "34110", (41.014, 28.955), 3),
    city("Lagos", "Lagos", "Nigeria", "101241", (6.455, 3.394), 1),
    city("Hanoi", "Hanoi", "Vietnam", "100000", (21.028, 105.854), 7),
    city("Bucharest", "București", "Romania", "010011", (44.436, 26.103), 2),
    city("Johannesburg", "Gauteng", "South Africa", "2000", (-26.202, 28.044), 2),
];
