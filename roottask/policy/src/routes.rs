//! Routes to other components, before any of them runs.
//!
//! Key function, inside the crate: [`check`].

use init::{Cause, Component, Config, Defect, Route};
use session::Target;

/// Whether each provider that is named exists. One whose own entry is wrong counts: that it does not start its clients are
/// told when they ask for a session.
pub(crate) fn check(file: &Config, index: usize, component: &Component) -> Result<(), Defect> {
    for Route { rule, at, .. } in &component.routes {
        let (Some(service), Target::Child(child)) = (rule.service, rule.target) else { continue };
        file.provider(index, &service, &child).map_err(|reason| {
            let place = format!("component `{}`", component.name);
            Defect { at: *at, cause: Cause::Value { place, key: "routes", reason } }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tail: &str) -> Config {
        let head = "[[component]]\nname = \"a\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\nprovides = [\"log\"]\n";
        let b = "[[component]]\nname = \"b\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\n";
        crate::system_file(&format!("{head}{b}{tail}")).unwrap()
    }

    fn routes_of_b(tail: &str) -> Result<(), String> {
        let f = file(tail);
        check(&f, 1, f.entries[1].result.as_ref().unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_route_leads_to_its_provider() {
        routes_of_b("routes = { log = \"a\" }").unwrap();
        routes_of_b("route = [{ to = \"any-child\" }]").unwrap();
    }

    #[test]
    fn wrong_routes_name_place_and_cause() {
        for (tail, want) in [
            (
                "routes = { log = \"x\" }",
                "line 12, column 18: component `b`, key `routes`: `log` goes to `x`, but there is no such \
                 component; there are `a`, `b`",
            ),
            (
                "routes = { nic = \"a\" }",
                "line 12, column 18: component `b`, key `routes`: `a` does not provide `nic`; no component does",
            ),
            (
                "[component.routes]\nlog = \"b\"",
                "line 13, column 7: component `b`, key `routes`: `log` goes to the component itself",
            ),
            (
                "route = [{ service = \"log\", to = \"a\" }]\nroutes = { log = \"b\" }",
                "line 13, column 18: component `b`, key `routes`: `log` goes to the component itself",
            ),
        ] {
            assert_eq!(routes_of_b(tail).unwrap_err(), want);
        }
    }

    #[test]
    fn a_wrong_provider_names_the_right_one() {
        let c = "[[component]]\nname = \"c\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\nroutes = { log = \"b\" }";
        let f = file(c);
        let e = check(&f, 2, f.entries[2].result.as_ref().unwrap()).unwrap_err();
        assert!(e.to_string().ends_with("`b` does not provide `log`; `a` does"), "{e}");
    }
}
