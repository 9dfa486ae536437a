//! Who can reach whom, as a picture: a box for each component, a frame for each init, an arrow from client to server.
//! `dagre` says where they go.

use dagre::graph::{Graph, GraphOptions};
use dagre::layout::types::LabelPos;
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, Point, RankDir, layout};
use init::{ARROW, Reach};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

type Drawing = Graph<NodeLabel, EdgeLabel>;

/// Pixels of a character, nearly, of one at an arrow, and of what is around text.
const CHARACTER: f64 = 7.5;
const SMALL: f64 = 6.6;
const LINE: f64 = 16.0;
const PADDING: f64 = 12.0;
const MARGIN: f64 = 24.0;

/// The picture as SVG.
pub fn draw(title: &str, reach: &[Reach]) -> String {
    let services = arrows(reach);
    let mut graph = graph(&services);
    let options = LayoutOptions {
        rankdir: RankDir::LR,
        nodesep: 32.0,
        ranksep: 40.0,
        marginx: MARGIN,
        marginy: 2.0 * MARGIN,
        ..LayoutOptions::default()
    };
    layout(&mut graph, Some(options));
    svg(title, &graph, &services).into_string()
}

/// Services between two components, by client and server. Arrows that begin at the frame of an init are left out: those
/// of its children say more.
fn arrows(reach: &[Reach]) -> BTreeMap<(&str, &str), BTreeSet<&str>> {
    let inits: BTreeSet<&str> = reach.iter().flat_map(|r| [&r.client, &r.server]).flat_map(|p| inits(p)).collect();
    let mut arrows: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for r in reach.iter().filter(|r| !inits.contains(r.client.as_str())) {
        arrows.entry((r.client.as_str(), r.server.as_str())).or_default().insert(r.service.as_str());
    }
    arrows
}

/// The labels of the inits around a component, the outermost first.
fn inits(path: &str) -> Vec<&str> {
    path.match_indices(ARROW).map(|(end, _)| &path[..end]).collect()
}

fn words(services: &BTreeSet<&str>) -> String {
    services.iter().copied().collect::<Vec<_>>().join(", ")
}

fn last(path: &str) -> &str {
    path.rsplit(ARROW).next().unwrap_or(path)
}

fn width(text: &str, character: f64) -> f64 {
    text.chars().count() as f64 * character
}

fn graph(services: &BTreeMap<(&str, &str), BTreeSet<&str>>) -> Drawing {
    let mut graph = Graph::with_options(GraphOptions { directed: true, multigraph: true, compound: true });
    for path in services.keys().flat_map(|(client, server)| [*client, *server]) {
        let label = NodeLabel {
            width: width(last(path), CHARACTER) + 2.0 * PADDING,
            height: LINE + PADDING,
            ..NodeLabel::default()
        };
        graph.set_node(path, Some(label));
        let mut child = path;
        for init in inits(path).into_iter().rev() {
            graph.set_node(init, Some(NodeLabel::default()));
            graph.set_parent(child, Some(init));
            child = init;
        }
    }
    for ((client, server), services) in services {
        let (width, height) = (width(&words(services), SMALL) + PADDING, LINE);
        let label = EdgeLabel { width, height, labelpos: LabelPos::Center, ..EdgeLabel::default() };
        graph.set_edge(*client, *server, Some(label), None);
    }
    graph
}

fn svg(title: &str, graph: &Drawing, services: &BTreeMap<(&str, &str), BTreeSet<&str>>) -> Markup {
    let mut nodes = graph.nodes();
    // Frames below what is in them.
    nodes.sort_by_key(|n| inits(n).len());
    let right = |n: &NodeLabel| n.x.unwrap_or(0.0) + n.width / 2.0;
    let bottom = |n: &NodeLabel| n.y.unwrap_or(0.0) + n.height / 2.0;
    let most = |of: &dyn Fn(&NodeLabel) -> f64| nodes.iter().filter_map(|n| graph.node(n)).map(of).fold(0.0, f64::max);
    let points = || services.keys().filter_map(|(c, s)| graph.edge(c, s, None)).flat_map(|e| &e.points);
    let far = |of: fn(&Point) -> f64| points().map(of).fold(0.0, f64::max);
    let width = most(&right).max(far(|p| p.x)).max(width(title, CHARACTER)) + MARGIN;
    let height = most(&bottom).max(far(|p| p.y)) + MARGIN;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (px(width)) " \
         " (px(height)) } width=(px(width)) height=(px(height))
            font-family="system-ui, sans-serif" font-size="13" {
            defs {
                marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto" {
                    path d="M0,0 L8,4 L0,8 z" fill="#59636e" {}
                }
            }
            rect width="100%" height="100%" fill="#ffffff" {}
            text x=(px(MARGIN)) y=(px(MARGIN)) fill="#59636e" { (title) }
            @for n in &nodes { (node(graph, n)) }
            @for ((client, server), services) in services { (arrow(graph, client, server, services)) }
        }
    }
}

fn node(graph: &Drawing, path: &str) -> Markup {
    let Some(n) = graph.node(path) else { return html! {} };
    let (x, y) = (n.x.unwrap_or(0.0), n.y.unwrap_or(0.0));
    let (left, top) = (x - n.width / 2.0, y - n.height / 2.0);
    let frame = !graph.children(Some(path)).is_empty();
    let fill = match path {
        _ if frame => "#f6f8fa",
        init::CORE => "#dbe3ea",
        _ => "#e3f1f8",
    };
    html! {
        rect x=(px(left)) y=(px(top)) width=(px(n.width)) height=(px(n.height)) rx="5" fill=(fill) stroke="#59636e" {}
        @if frame {
            text x=(px(left + PADDING / 2.0)) y=(px(top + LINE)) fill="#59636e" { (last(path)) }
        } @else {
            text x=(px(x)) y=(px(y)) text-anchor="middle" dominant-baseline="central" fill="#1f2328" { (last(path)) }
        }
    }
}

/// The log is everywhere: its arrows are dotted.
fn arrow(graph: &Drawing, client: &str, server: &str, services: &BTreeSet<&str>) -> Markup {
    let Some(edge) = graph.edge(client, server, None) else { return html! {} };
    let steps: Vec<String> = edge.points.iter().map(|p| format!("{},{}", px(p.x), px(p.y))).collect();
    let dots = if services.iter().all(|s| *s == "log") { "2 3" } else { "none" };
    let text = words(services);
    let wide = width(&text, SMALL);
    let (x, y) = (edge.x.unwrap_or(0.0), edge.y.unwrap_or(0.0));
    html! {
        polyline points=(steps.join(" ")) fill="none" stroke="#59636e" stroke-dasharray=(dots) marker-end="url(#tip)" {}
        rect x=(px(x - wide / 2.0)) y=(px(y - LINE / 2.0)) width=(px(wide)) height=(px(LINE))
            fill="#ffffff" fill-opacity="0.85" {}
        text x=(px(x)) y=(px(y)) text-anchor="middle" dominant-baseline="central" font-size="12" fill="#0b6e99" {
            (text)
        }
    }
}

fn px(length: f64) -> String {
    format!("{length:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(list: &[(&str, &str, &str)]) -> Vec<Reach> {
        let text: String = list
            .iter()
            .map(|(client, _, _)| *client)
            .chain(list.iter().map(|(_, _, server)| *server))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|name| {
                let provides: Vec<_> = list.iter().filter(|r| r.2 == name).map(|r| format!("\"{}\"", r.1)).collect();
                let routes: Vec<_> = list
                    .iter()
                    .filter(|r| r.0 == name)
                    .map(|r| {
                        format!(
                            "{} = \
                 \"{}\"",
                            r.1, r.2
                        )
                    })
                    .collect();
                format!(
                    "[[component]]\nname = \"{name}\"\nbinary = \"b\"\nram = \"1M\"\npriority = 1\nprovides = \
                     [{}]\nroutes = {{ {} }}\n",
                    provides.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect::<Vec<_>>().join(", "),
                    routes.join(", ")
                )
            })
            .collect();
        init::check(&init::Config::parse(&text).unwrap(), &init::World::default()).reach
    }

    #[test]
    fn each_component_is_a_box_and_each_pair_an_arrow() {
        let svg = draw(
            "a < b",
            &reach(&[("vm", "log", "console"), ("vm", "terminal", "console"), ("console", "terminal", "uart")]),
        );
        assert!(svg.starts_with("<svg") && svg.contains("a &lt; b"));
        for name in ["vm", "console", "uart", "log, terminal"] {
            assert_eq!(svg.matches(&format!(">{name}</text>")).count(), 1, "{name}");
        }
        assert_eq!(svg.matches("<polyline").count(), 2);
    }

    #[test]
    fn arrows_there_and_back_do_not_hide_each_other() {
        let services = reach(&[("a", "x", "b"), ("b", "log", "a")]);
        let services = arrows(&services);
        let mut graph = graph(&services);
        layout(&mut graph, None);
        let middle = |client, server| graph.edge(client, server, None).map(|e| (e.x.unwrap(), e.y.unwrap())).unwrap();
        assert_ne!(middle("a", "b"), middle("b", "a"));
    }

    #[test]
    fn boxes_do_not_touch() {
        let services = reach(&[("a", "x", "c"), ("b", "x", "c"), ("a", "y", "d"), ("c", "y", "d")]);
        let services = arrows(&services);
        let mut graph = graph(&services);
        layout(&mut graph, Some(LayoutOptions { rankdir: RankDir::LR, ..LayoutOptions::default() }));
        let nodes: Vec<_> = graph.nodes().iter().map(|n| graph.node(n).unwrap().clone()).collect();
        for (i, a) in nodes.iter().enumerate() {
            for b in &nodes[i + 1..] {
                let (dx, dy) = ((a.x.unwrap() - b.x.unwrap()).abs(), (a.y.unwrap() - b.y.unwrap()).abs());
                assert!(dx > (a.width + b.width) / 2.0 || dy > (a.height + b.height) / 2.0, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn inits_are_frames() {
        assert_eq!(inits("a -> b -> c"), ["a", "a -> b"]);
        assert_eq!((inits("a"), last("a -> b")), (vec![], "b"));
        let text = "[[component]]\nname = \"i\"\nbinary = \"init\"\nram = \"4M\"\npriority = 1\nroutes = { timer = \
         \"parent\" }\n\
                    [[component.config.component]]\nname = \"a\"\nbinary = \"b\"\nram = \"1M\"\npriority = \
                     1\nroutes = { timer = \"parent\" }\n";
        let world = init::World { services: init::Name::new("timer").into_iter().collect(), ..init::World::default() };
        let svg = draw("", &init::check(&init::Config::parse(text).unwrap(), &world).reach);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("#f6f8fa").count()), (1, 1), "from `a` alone: {svg}");
    }
}
