//! Countries by their codes, and where each is.

use std::fmt;

use sovereign_model::stack::Location;

/// A country by its code of two letters (ISO 3166-1 alpha-2), or one of the few codes beside these that registries of
/// addresses use (`EU`, `AP`; `??` for what nobody knows).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// A code, if it is one: two letters in upper case, or `??`.
    pub fn from_code(code: &[u8]) -> Option<Self> {
        let code = <[u8; 2]>::try_from(code).ok()?;
        (code == *b"??" || code.iter().all(u8::is_ascii_uppercase)).then_some(Self(code))
    }

    /// Every country whose place is known.
    pub fn all() -> impl Iterator<Item = Self> {
        PLACES.iter().map(|(code, ..)| Self(**code))
    }

    /// Where it is: for distances to data centers. `None` when that is not known.
    pub fn place(self) -> Option<Location> {
        let at = PLACES.binary_search_by_key(&&self.0, |(code, ..)| code).ok()?;
        let (_, latitude, longitude) = PLACES[at];
        Some(Location { latitude, longitude })
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Country({self})")
    }
}

/// Where countries are, in degrees: a town in each, that of its first time zone, and of large countries of the one where
/// most people live; whoever asks is more likely to be there than in the middle of a desert. From `zone.tab` of the IANA
/// time zone database 2025b, which is in the public domain, rounded to tenths. Two are ours: `EU` is Brussels, `AP`
/// Singapore. By code.
const PLACES: &[(&[u8; 2], f64, f64)] = &[
    (b"AD", 42.5, 1.5),
    (b"AE", 25.3, 55.3),
    (b"AF", 34.5, 69.2),
    (b"AG", 17.1, -61.8),
    (b"AI", 18.2, -63.1),
    (b"AL", 41.3, 19.8),
    (b"AM", 40.2, 44.5),
    (b"AO", -8.8, 13.2),
    (b"AP", 1.3, 103.9),
    (b"AQ", -77.8, 166.6),
    (b"AR", -34.6, -58.5),
    (b"AS", -14.3, -170.7),
    (b"AT", 48.2, 16.3),
    (b"AU", -33.9, 151.2),
    (b"AW", 12.5, -70.0),
    (b"AX", 60.1, 19.9),
    (b"AZ", 40.4, 49.9),
    (b"BA", 43.9, 18.4),
    (b"BB", 13.1, -59.6),
    (b"BD", 23.7, 90.4),
    (b"BE", 50.8, 4.3),
    (b"BF", 12.4, -1.5),
    (b"BG", 42.7, 23.3),
    (b"BH", 26.4, 50.6),
    (b"BI", -3.4, 29.4),
    (b"BJ", 6.5, 2.6),
    (b"BL", 17.9, -62.9),
    (b"BM", 32.3, -64.8),
    (b"BN", 4.9, 114.9),
    (b"BO", -16.5, -68.2),
    (b"BQ", 12.2, -68.3),
    (b"BR", -23.5, -46.6),
    (b"BS", 25.1, -77.3),
    (b"BT", 27.5, 89.7),
    (b"BW", -24.6, 25.9),
    (b"BY", 53.9, 27.6),
    (b"BZ", 17.5, -88.2),
    (b"CA", 43.6, -79.4),
    (b"CC", -12.2, 96.9),
    (b"CD", -4.3, 15.3),
    (b"CF", 4.4, 18.6),
    (b"CG", -4.3, 15.3),
    (b"CH", 47.4, 8.5),
    (b"CI", 5.3, -4.0),
    (b"CK", -21.2, -159.8),
    (b"CL", -33.5, -70.7),
    (b"CM", 4.0, 9.7),
    (b"CN", 31.2, 121.5),
    (b"CO", 4.6, -74.1),
    (b"CR", 9.9, -84.1),
    (b"CU", 23.1, -82.4),
    (b"CV", 14.9, -23.5),
    (b"CW", 12.2, -69.0),
    (b"CX", -10.4, 105.7),
    (b"CY", 35.2, 33.4),
    (b"CZ", 50.1, 14.4),
    (b"DE", 52.5, 13.4),
    (b"DJ", 11.6, 43.1),
    (b"DK", 55.7, 12.6),
    (b"DM", 15.3, -61.4),
    (b"DO", 18.5, -69.9),
    (b"DZ", 36.8, 3.0),
    (b"EC", -2.2, -79.8),
    (b"EE", 59.4, 24.8),
    (b"EG", 30.1, 31.2),
    (b"EH", 27.1, -13.2),
    (b"ER", 15.3, 38.9),
    (b"ES", 40.4, -3.7),
    (b"ET", 9.0, 38.7),
    (b"EU", 50.8, 4.3),
    (b"FI", 60.2, 25.0),
    (b"FJ", -18.1, 178.4),
    (b"FK", -51.7, -57.9),
    (b"FM", 7.4, 151.8),
    (b"FO", 62.0, -6.8),
    (b"FR", 48.9, 2.3),
    (b"GA", 0.4, 9.4),
    (b"GB", 51.5, -0.1),
    (b"GD", 12.1, -61.8),
    (b"GE", 41.7, 44.8),
    (b"GF", 4.9, -52.3),
    (b"GG", 49.5, -2.5),
    (b"GH", 5.5, -0.2),
    (b"GI", 36.1, -5.3),
    (b"GL", 64.2, -51.7),
    (b"GM", 13.5, -16.6),
    (b"GN", 9.5, -13.7),
    (b"GP", 16.2, -61.5),
    (b"GQ", 3.8, 8.8),
    (b"GR", 38.0, 23.7),
    (b"GS", -54.3, -36.5),
    (b"GT", 14.6, -90.5),
    (b"GU", 13.5, 144.8),
    (b"GW", 11.8, -15.6),
    (b"GY", 6.8, -58.2),
    (b"HK", 22.3, 114.2),
    (b"HN", 14.1, -87.2),
    (b"HR", 45.8, 16.0),
    (b"HT", 18.5, -72.3),
    (b"HU", 47.5, 19.1),
    (b"ID", -6.2, 106.8),
    (b"IE", 53.3, -6.2),
    (b"IL", 31.8, 35.2),
    (b"IM", 54.1, -4.5),
    (b"IN", 22.5, 88.4),
    (b"IO", -7.3, 72.4),
    (b"IQ", 33.4, 44.4),
    (b"IR", 35.7, 51.4),
    (b"IS", 64.2, -21.9),
    (b"IT", 41.9, 12.5),
    (b"JE", 49.2, -2.1),
    (b"JM", 18.0, -76.8),
    (b"JO", 31.9, 35.9),
    (b"JP", 35.7, 139.7),
    (b"KE", -1.3, 36.8),
    (b"KG", 42.9, 74.6),
    (b"KH", 11.6, 104.9),
    (b"KI", 1.4, 173.0),
    (b"KM", -11.7, 43.3),
    (b"KN", 17.3, -62.7),
    (b"KP", 39.0, 125.8),
    (b"KR", 37.5, 127.0),
    (b"KW", 29.3, 48.0),
    (b"KY", 19.3, -81.4),
    (b"KZ", 43.2, 77.0),
    (b"LA", 18.0, 102.6),
    (b"LB", 33.9, 35.5),
    (b"LC", 14.0, -61.0),
    (b"LI", 47.1, 9.5),
    (b"LK", 6.9, 79.8),
    (b"LR", 6.3, -10.8),
    (b"LS", -29.5, 27.5),
    (b"LT", 54.7, 25.3),
    (b"LU", 49.6, 6.2),
    (b"LV", 57.0, 24.1),
    (b"LY", 32.9, 13.2),
    (b"MA", 33.6, -7.6),
    (b"MC", 43.7, 7.4),
    (b"MD", 47.0, 28.8),
    (b"ME", 42.4, 19.3),
    (b"MF", 18.1, -63.1),
    (b"MG", -18.9, 47.5),
    (b"MH", 7.2, 171.2),
    (b"MK", 42.0, 21.4),
    (b"ML", 12.7, -8.0),
    (b"MM", 16.8, 96.2),
    (b"MN", 47.9, 106.9),
    (b"MO", 22.2, 113.5),
    (b"MP", 15.2, 145.8),
    (b"MQ", 14.6, -61.1),
    (b"MR", 18.1, -15.9),
    (b"MS", 16.7, -62.2),
    (b"MT", 35.9, 14.5),
    (b"MU", -20.2, 57.5),
    (b"MV", 4.2, 73.5),
    (b"MW", -15.8, 35.0),
    (b"MX", 19.4, -99.2),
    (b"MY", 3.2, 101.7),
    (b"MZ", -26.0, 32.6),
    (b"NA", -22.6, 17.1),
    (b"NC", -22.3, 166.4),
    (b"NE", 13.5, 2.1),
    (b"NF", -29.1, 168.0),
    (b"NG", 6.5, 3.4),
    (b"NI", 12.2, -86.3),
    (b"NL", 52.4, 4.9),
    (b"NO", 59.9, 10.8),
    (b"NP", 27.7, 85.3),
    (b"NR", -0.5, 166.9),
    (b"NU", -19.0, -169.9),
    (b"NZ", -36.9, 174.8),
    (b"OM", 23.6, 58.6),
    (b"PA", 9.0, -79.5),
    (b"PE", -12.1, -77.0),
    (b"PF", -17.5, -149.6),
    (b"PG", -9.5, 147.2),
    (b"PH", 14.6, 121.0),
    (b"PK", 24.9, 67.0),
    (b"PL", 52.2, 21.0),
    (b"PM", 47.0, -56.3),
    (b"PN", -25.1, -130.1),
    (b"PR", 18.5, -66.1),
    (b"PS", 31.5, 34.5),
    (b"PT", 38.7, -9.1),
    (b"PW", 7.3, 134.5),
    (b"PY", -25.3, -57.7),
    (b"QA", 25.3, 51.5),
    (b"RE", -20.9, 55.5),
    (b"RO", 44.4, 26.1),
    (b"RS", 44.8, 20.5),
    (b"RU", 55.8, 37.6),
    (b"RW", -1.9, 30.1),
    (b"SA", 24.6, 46.7),
    (b"SB", -9.5, 160.2),
    (b"SC", -4.7, 55.5),
    (b"SD", 15.6, 32.5),
    (b"SE", 59.3, 18.1),
    (b"SG", 1.3, 103.8),
    (b"SH", -15.9, -5.7),
    (b"SI", 46.0, 14.5),
    (b"SJ", 78.0, 16.0),
    (b"SK", 48.1, 17.1),
    (b"SL", 8.5, -13.2),
    (b"SM", 43.9, 12.5),
    (b"SN", 14.7, -17.4),
    (b"SO", 2.1, 45.4),
    (b"SR", 5.8, -55.2),
    (b"SS", 4.8, 31.6),
    (b"ST", 0.3, 6.7),
    (b"SV", 13.7, -89.2),
    (b"SX", 18.1, -63.0),
    (b"SY", 33.5, 36.3),
    (b"SZ", -26.3, 31.1),
    (b"TC", 21.5, -71.1),
    (b"TD", 12.1, 15.1),
    (b"TF", -49.4, 70.2),
    (b"TG", 6.1, 1.2),
    (b"TH", 13.8, 100.5),
    (b"TJ", 38.6, 68.8),
    (b"TK", -9.4, -171.2),
    (b"TL", -8.6, 125.6),
    (b"TM", 38.0, 58.4),
    (b"TN", 36.8, 10.2),
    (b"TO", -21.1, -175.2),
    (b"TR", 41.0, 29.0),
    (b"TT", 10.7, -61.5),
    (b"TV", -8.5, 179.2),
    (b"TW", 25.1, 121.5),
    (b"TZ", -6.8, 39.3),
    (b"UA", 50.4, 30.5),
    (b"UG", 0.3, 32.4),
    (b"UM", 28.2, -177.4),
    (b"US", 41.9, -87.7),
    (b"UY", -34.9, -56.2),
    (b"UZ", 41.3, 69.3),
    (b"VA", 41.9, 12.5),
    (b"VC", 13.2, -61.2),
    (b"VE", 10.5, -66.9),
    (b"VG", 18.4, -64.6),
    (b"VI", 18.4, -64.9),
    (b"VN", 10.8, 106.7),
    (b"VU", -17.7, 168.4),
    (b"WF", -13.3, -176.2),
    (b"WS", -13.8, -171.7),
    (b"YE", 12.8, 45.2),
    (b"YT", -12.8, 45.2),
    (b"ZA", -26.2, 28.0),
    (b"ZM", -15.4, 28.3),
    (b"ZW", -17.8, 31.1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_order_and_on_the_globe() {
        assert!(PLACES.is_sorted_by(|(one, ..), (other, ..)| one < other));
        for country in Country::all() {
            let place = country.place().unwrap();
            assert!(place.latitude.abs() <= 90.0 && place.longitude.abs() <= 180.0, "{country}");
        }
        assert_eq!(Country::from_code(b"ZZ").unwrap().place(), None);
        assert!(["", "d", "de", "DEU", "D1", "?", "é"].iter().all(|no| Country::from_code(no.as_bytes()).is_none()));
    }

    /// The database that the table was made of, as this machine has it, is the judge: every country is in both, and where
    /// it is said to be, one of its time zones is.
    #[test]
    fn countries_are_where_the_time_zone_database_has_them() {
        let zones = std::fs::read_to_string("/usr/share/zoneinfo/zone.tab").expect("Debian's tzdata is installed");
        let degrees = |text: &str| {
            let (sign, digits) = text.split_at(1);
            let whole = if digits.len() % 2 == 0 { 2 } else { 3 };
            let number = |text: &str| if text.is_empty() { 0.0 } else { text.parse::<f64>().unwrap() };
            let (minutes, seconds) = digits[whole..].split_at(2);
            let value = number(&digits[..whole]) + number(minutes) / 60.0 + number(seconds) / 3600.0;
            if sign == "-" { -value } else { value }
        };
        let mut found = std::collections::BTreeMap::<Country, Vec<(f64, f64)>>::new();
        for line in zones.lines().filter(|line| !line.starts_with('#')) {
            let mut columns = line.split('\t');
            let country = Country::from_code(columns.next().unwrap().as_bytes()).unwrap();
            let place = columns.next().unwrap();
            let middle = place[1..].find(['+', '-']).unwrap() + 1;
            found.entry(country).or_default().push((degrees(&place[..middle]), degrees(&place[middle..])));
        }
        let ours: Vec<Country> =
            Country::all().filter(|ours| !["EU", "AP"].contains(&ours.to_string().as_str())).collect();
        assert_eq!(ours, found.keys().copied().collect::<Vec<_>>());
        for country in ours {
            let place = country.place().unwrap();
            let near = |(latitude, longitude): &(f64, f64)| {
                (latitude - place.latitude).abs() < 0.1 && (longitude - place.longitude).abs() < 0.1
            };
            assert!(found[&country].iter().any(near), "{country}: {place:?}, but {:?}", found[&country]);
        }
    }
}
