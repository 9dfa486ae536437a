//! A component's description as text: what its parent tells core, which starts it. What is between the component and its
//! parent alone (routes, services, restarts) is not in it, but for whether there is somebody whom it can ask for a log, and whether it may have
//! guests.

use crate::config::Component;
use crate::document::Placed;
use crate::reach::VM;
use parent::SERVICE_LOG;
use std::fmt::Display;
use toml::{Table, Value};

impl Component {
    /// A `[[component]]` that [`Config::of_child`](crate::Config::of_child) reads. What comes from defaults is said.
    pub fn describe(&self) -> Result<String, toml::ser::Error> {
        let config = self.config.as_deref().map(toml::from_str::<Table>).transpose();
        let config = config.map_err(|e| <toml::ser::Error as serde::ser::Error>::custom(e.message()))?;
        let size = |bytes: u64| Value::from(bytes.to_string());
        let mut t = Table::new();
        let mut put = |key: &str, value: Value| _ = t.insert(key.into(), value);
        put("name", self.name.as_str().into());
        put("binary", self.binary.value.as_str().into());
        put("ram", size(self.ram.value.bytes()));
        put("stack", size(self.stack.bytes()));
        put("spare", size(self.spare_bytes()));
        put("caps", self.capabilities().into());
        put("kmem", size(self.kernel_memory().bytes()));
        put("priority", self.priority.into());
        if self.is_parent() {
            put("children", Table::from_iter([("kmem".into(), size(self.kernel_memory_of_children()))]).into());
        }
        if let Some(cpus) = &self.cpus {
            put("cpus", cpus.iter().map(|c| Value::from(i64::from(c.value))).collect::<Vec<_>>().into());
        }
        put("irqs", self.irqs.iter().map(|i| Value::from(i64::from(i.value))).collect::<Vec<_>>().into());
        put("io_ports", texts(&self.io_ports));
        put("io_mem", texts(&self.io_mem));
        put("roms", texts(&self.roms));
        put("args", self.args.iter().map(|arg| Value::from(arg.as_str())).collect::<Vec<_>>().into());
        if let Some(config) = config {
            put("config", config.into());
        }
        let routes = [(SERVICE_LOG, self.has_log()), (VM, self.may_have_guests())];
        let routes = routes.into_iter().filter(|(_, leads)| *leads);
        let routes = Table::from_iter(routes.map(|(service, _)| (service.into(), "parent".into())));
        if !routes.is_empty() {
            put("routes", routes.into());
        }
        toml::to_string(&Table::from_iter([("component".into(), Value::from(vec![Value::from(t)]))]))
    }
}

fn texts<T: Display>(all: &[Placed<T>]) -> Value {
    all.iter().map(|item| Value::from(item.value.to_string())).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use crate::{Component, Config};

    fn component(tail: &str) -> Component {
        let text = format!("[[component]]\nname = \"a\"\nbinary = \"m\"\nram = \"8M\"\npriority = 7\n{tail}");
        Config::parse(&text).unwrap().entries.remove(0).result.unwrap()
    }

    #[test]
    fn core_reads_what_was_said() {
        for tail in [
            "",
            "spare = \"4M\"\nstack = \"16K\"\nkmem = \"8K\"\ncaps = 9\nchildren = { kmem = \"4K\" }",
            "cpus = [3, 1]\nio_ports = [\"0x3f8-0x3ff\", \"0x70\"]\nirqs = [4]\nio_mem = [\"0xb8000-0xb8fff\"]\nroms = [\"x\"]\nargs = [\"-v\", \"\"]",
            "[component.config]\na = [1, { b = \"ü\" }]\nt = 1979-05-27",
            "routes = { log = \"console\" }",
            "route = [{ service = \"log\", to = \"nobody\" }, { to = \"any-child\" }]",
            "route = [{ to = \"any-child\" }]",
            "routes = { vm = \"parent\" }",
            "route = [{ to = \"parent\" }]",
        ] {
            let c = component(tail);
            let there = Config::of_child(&c.describe().unwrap(), "i").unwrap().entries.remove(0).result.unwrap();
            let told = |c: &Component| (c.name, c.ram.value, c.spare_bytes(), c.capabilities(), c.kernel_memory());
            assert_eq!(told(&there), told(&c), "{tail}");
            assert_eq!((&there.config, there.kernel_memory_of_children()), (&c.config, c.kernel_memory_of_children()));
            assert_eq!((there.is_parent(), there.has_log()), (c.is_parent(), c.has_log()));
            assert_eq!(there.may_have_guests(), c.may_have_guests(), "{tail}");
            // What is said of what has defaults is said.
            assert_eq!(there.describe().unwrap(), c.describe().unwrap());
        }
    }

    #[test]
    fn who_may_have_guests_is_said_by_the_rules_that_are_reached() {
        for (tail, want) in [
            ("", false),
            ("routes = { log = \"console\" }", false),
            ("routes = { vm = \"parent\" }", true),
            ("routes = { vm = \"other\" }", true),
            ("routes = { vm = \"nobody\" }", false),
            ("route = [{ to = \"parent\" }]", true),
            ("route = [{ to = \"any-child\" }, { to = \"parent\" }]", false),
            ("route = [{ service = \"vm\", to = \"any-child\" }]", true),
            ("route = [{ service = \"vm\", to = \"nobody\" }, { to = \"parent\" }]", false),
            ("route = [{ service = \"vm\", label = \"x\", to = \"nobody\" }, { to = \"parent\" }]", true),
            ("route = [{ service = \"vm\", label = \"x\", to = \"parent\" }]", true),
        ] {
            let mut c = component(tail);
            assert_eq!(c.may_have_guests(), want, "{tail}");
            c.deny_guests();
            assert!(!c.may_have_guests(), "{tail}");
        }
    }

    #[test]
    fn an_init_in_an_init_has_its_own() {
        let text = "[[component]]\nname = \"o\"\nbinary = \"init\"\nram = \"8M\"\npriority = 7\n[[component.config.component]]\n\
                    name = \"i\"\nbinary = \"x\"\nram = \"1M\"\npriority = 3\n";
        let config = Config::parse(text).unwrap();
        let outer = config.components().next().unwrap();
        assert!(outer.is_parent() && outer.spare_bytes() == 7 << 20);
        let inner = outer.nested.as_ref().unwrap().components().next().unwrap();
        assert_eq!(outer.kernel_memory_of_children(), inner.kernel_memory().bytes());
        assert_eq!(outer.capabilities(), 128 + 128 + inner.capabilities());
        let there = Config::of_child(&outer.describe().unwrap(), "root").unwrap();
        assert_eq!(there.components().next().unwrap().nested.as_ref().unwrap().components().count(), 1);
    }

    #[test]
    fn what_is_no_component_is_refused_with_the_path() {
        let errors = |text: &str| {
            Config::of_child(text, "o -> i").unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(
            errors("[[component]]\nname = 1\n")[0].contains("component `o -> i -> number 1`"),
            "{:?}",
            errors("[[component]]\nname = 1\n")
        );
        assert_eq!(errors("").len(), 1);
        let two = "[[component]]\nname = \"a\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\n".repeat(2);
        assert!(!errors(&two.replacen("\"a\"", "\"b\"", 1)).is_empty());
    }
}
