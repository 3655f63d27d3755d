//! For each country the order of the data centers, nearest first.
//!
//! There are far fewer orders than countries: each is a class, and an address has the class of its country.
//!
//! A data center is where its `location` says; without one, where the country is whose jurisdiction it is under. Where
//! nobody knows, it comes last. Equally far ones are in the order of their names.

use std::collections::BTreeMap;
use std::fmt;

use sovereign_model::DatacenterName;
use sovereign_model::names::{Names, Place};
use sovereign_model::stack::Location;

use super::country::Country;

/// The radius of the earth, in km.
const EARTH: f64 = 6371.0;

/// Data centers, nearest first: a class of countries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(Vec<DatacenterName>);

impl Order {
    /// The data centers, nearest first.
    pub fn datacenters(&self) -> &[DatacenterName] {
        &self.0
    }
}

/// The name of the class: the data centers with dots between, which no name of theirs contains.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, datacenter) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{datacenter}")?;
        }
        Ok(())
    }
}

/// The order of the data centers for every country.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    classes: Vec<Order>,
    of: BTreeMap<Country, usize>,
}

impl Orders {
    /// Those of a stack's data centers. There are none unless it is known of two data centers at least where they are: nobody is then
    /// nearer to one than to another.
    pub fn new(names: &Names) -> Self {
        let places: Vec<(&DatacenterName, Option<Location>)> =
            names.places.iter().map(|place| (&place.name, location(place))).collect();
        if places.iter().filter(|(_, location)| location.is_some()).count() < 2 {
            return Self::default();
        }
        let by_country: BTreeMap<Country, Order> =
            Country::all().filter_map(|country| Some((country, nearest_first(country.place()?, &places)))).collect();
        let mut classes: Vec<Order> = by_country.values().cloned().collect();
        classes.sort();
        classes.dedup();
        let index = |order: &Order| classes.binary_search(order).ok();
        let of = by_country.iter().filter_map(|(country, order)| Some((*country, index(order)?))).collect();
        Self { classes, of }
    }

    /// All that there are.
    pub fn classes(&self) -> &[Order] {
        &self.classes
    }

    /// Which of [`Self::classes`] a country has.
    pub fn class(&self, country: Country) -> Option<usize> {
        self.of.get(&country).copied()
    }
}

/// Where a data center is, as far as the stack file says.
fn location(place: &Place) -> Option<Location> {
    let of_country = |code: &String| Country::from_code(code.as_bytes())?.place();
    place.location.or_else(|| place.jurisdiction.as_ref().and_then(of_country))
}

fn nearest_first(from: Location, places: &[(&DatacenterName, Option<Location>)]) -> Order {
    let mut order: Vec<_> = places
        .iter()
        .map(|(name, place)| (place.map_or(u32::MAX, |place| kilometres(from, place)), (*name).clone()))
        .collect();
    order.sort();
    Order(order.into_iter().map(|(_, name)| name).collect())
}

/// The way from one place to another over the globe (haversine), in whole km: finer differences mean nothing, and could
/// differ from machine to machine.
fn kilometres(from: Location, to: Location) -> u32 {
    let half = |one: f64, other: f64| ((other - one).to_radians() / 2.0).sin().powi(2);
    let along = from.latitude.to_radians().cos() * to.latitude.to_radians().cos();
    let a = half(from.latitude, to.latitude) + along * half(from.longitude, to.longitude);
    (2.0 * EARTH * a.sqrt().min(1.0).asin()).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(datacenters: &[(&str, &str)]) -> Names {
        let mut text = "version = 1\n[stack]\nname = \"s\"\n".to_owned();
        for (at, (name, where_it_is)) in datacenters.iter().enumerate() {
            let uplink = format!("[[datacenter.uplink]]\nname = \"u\"\naddress = \"127.0.0.{}\"\nport = 8443", at + 1);
            text += &format!("[[datacenter]]\nname = \"{name}\"\n{where_it_is}\n{uplink}\n");
        }
        text += "[[site]]\nname = \"b\"\napp = \"ghost\"\ncanonical = \"b.localhost\"\n";
        text += &format!("primary = \"{}\"\n", datacenters[0].0);
        let stack = sovereign_model::parse("stack.toml", &text, std::path::Path::new("/"));
        Names::of(&stack.unwrap_or_else(|no| panic!("{no:?}")))
    }

    fn order(orders: &Orders, code: &str) -> String {
        let class = orders.class(Country::from_code(code.as_bytes()).unwrap());
        class.map_or_else(|| "none".to_owned(), |class| orders.classes()[class].to_string())
    }

    #[test]
    fn whoever_asks_is_sent_to_the_nearest() {
        let orders = Orders::new(&names(&[
            ("attic", ""),
            ("vienna", "location = { latitude = 48.2, longitude = 16.4 }"),
            ("denver", "location = { latitude = 39.7, longitude = -105.0 }"),
            ("island", "jurisdiction = \"IS\""),
        ]));
        for (code, nearest) in [
            ("DE", "vienna.island.denver.attic"),
            ("GL", "island.vienna.denver.attic"),
            ("MX", "denver.island.vienna.attic"),
            // Over the Pacific, not around the other way.
            ("NZ", "denver.island.vienna.attic"),
            ("??", "none"),
        ] {
            assert_eq!(order(&orders, code), nearest, "{code}");
        }
        assert!(orders.classes().len() < 7, "{:?}", orders.classes());
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        let at = |latitude, longitude| Location { latitude, longitude };
        // Half of the way around; a quarter; across the date line; Berlin to New York.
        assert_eq!(kilometres(at(0.0, 0.0), at(0.0, 180.0)), 20_015);
        assert_eq!(kilometres(at(90.0, 17.0), at(0.0, -33.0)), 10_008);
        assert_eq!(kilometres(at(0.0, 179.5), at(0.0, -179.5)), 111);
        assert!(kilometres(at(52.5, 13.4), at(40.7, -74.0)).abs_diff(6385) < 10);
        assert_eq!(kilometres(at(-90.0, 0.0), at(-90.0, 99.0)), 0);
    }

    #[test]
    fn without_two_places_nobody_is_nearer() {
        assert_eq!(Orders::new(&names(&[("a", ""), ("b", "jurisdiction = \"IS\"")])), Orders::default());
        let same = Orders::new(&names(&[("b", "jurisdiction = \"IS\""), ("a", "jurisdiction = \"IS\"")]));
        assert_eq!(order(&same, "IS"), "a.b");
    }
}
