//! Creating a component: kernel objects, memory, capabilities. What it gets is in its plan; this only carries it out.
//!
//! Key type: [`Creator`].

use crate::end::end_domain;
use crate::handler::BUDGET_MS;
use crate::hub::Member;
use crate::office::Office;
use crate::portals::Portals;
use crate::shared::{Objects, Running};
use crate::space::{self, Nova, SpaceError, Tried};
use crate::window::Window;
use abi::{CreatePdOp, Hip, Scd, Sel, Status, perm, root_obj};
use parent::{layout, sel};
use policy::{ComponentPlan, Content, Machine, Module, Plan, Source};
use rt::hypercall::{self, EcArgs};
use rt::rpc::Entrypoint;
use services::ChildrenServer;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// Everything that creating components needs.
pub struct Creator<'a> {
    /// Where resources come from.
    pub nova: Nova,
    /// Physical memory.
    pub window: &'a Window,
    /// Boot modules.
    pub modules: &'a [Module<'static>],
    /// The hypervisor information page.
    pub hip: &'a Hip,
    /// What components are told about the machine.
    pub machine: Machine,
    /// Portals of components.
    pub portals: &'static Portals,
}

impl Creator<'_> {
    /// Creates component `index` of a plan, with that label; it does not run yet. What there is of one that fails is destroyed
    /// again.
    pub fn create(&self, plan: &Plan, index: usize, label: &str, member: &Arc<Member>) -> Result<Running, SpaceError> {
        let bad_plan = SpaceError { what: "find its plan", status: Status::BadPar };
        let c = plan.component(index).ok_or(bad_plan)?;
        let mut objects = Objects::default();
        match self.build(plan, index, member, c, &mut objects) {
            Ok(()) => Ok(Running::new(label, c, Arc::clone(member), objects)),
            Err(e) => end_domain(member.index, &objects, self.portals).and(Err(e)),
        }
    }

    fn build(
        &self,
        plan: &Plan,
        index: usize,
        member: &Arc<Member>,
        c: &ComponentPlan,
        o: &mut Objects,
    ) -> Result<(), SpaceError> {
        self.create_domain(c, o)?;
        self.portals.devices.begin(member, c, o.obj, o.pio);
        self.fill(plan, index, c)?;
        self.map(c, o)?;
        self.give_basics(c, o)?;
        self.portals.give(member, o.obj, c.first_cpu()).tried("create its portals")?;
        let point = self.portals.hub.point(c.first_cpu(), &self.portals.helpers).tried("make an entry point")?;
        let what = "create its protection domain's session";
        self.portals.memory.begin(member, point, o).tried(what)?;
        if c.kmem_of_children.is_some() {
            self.give_children(member, point, o).tried("let it have children")?;
        }
        self.create_first_thread(c, o)
    }

    fn give_children(&self, member: &Arc<Member>, point: Entrypoint, o: &Objects) -> Result<(), Status> {
        let Portals { hub, shared, .. } = self.portals;
        let office = Office::new(hub, Arc::clone(shared), Arc::clone(member));
        let children = point.manage(ChildrenServer(office))?;
        space::give(o.obj, children.cap().sel(), sel::CHILDREN_SESSION, perm::Pt::CALL.bits())?;
        member.raise(children);
        Ok(())
    }

    fn create_domain(&self, c: &ComponentPlan, o: &mut Objects) -> Result<(), SpaceError> {
        let what = "create its protection domain, with kernel memory of its own";
        let new = |to: &mut Sel, create: &dyn Fn(Sel) -> Result<(), Status>| {
            let sel = space::free_selector()?;
            create(sel).inspect_err(|_| rt::sel::free(sel))?;
            *to = sel;
            Ok(())
        };
        new(&mut o.cage, &|s| hypercall::create_pd(CreatePdOp::Pd, s, root_obj::ROOT_PD)).tried(what)?;
        let cage = o.cage;
        new(&mut o.pd, &|s| hypercall::create_account(s, cage, c.kmem_frames)).tried(what)?;
        let pd = o.pd;
        let space = |to, op, what| new(to, &|s| hypercall::create_pd(op, s, pd)).tried(what);
        space(&mut o.obj, CreatePdOp::Obj, "create its object space")?;
        space(&mut o.hst, CreatePdOp::Hst, "create its host space")?;
        // Host threads are bound to a PIO space also if they have no ports (2.2.1).
        space(&mut o.pio, CreatePdOp::Pio, "create its PIO space")
    }

    /// Zeroes its frames, then puts image, configuration and start information in.
    fn fill(&self, plan: &Plan, index: usize, c: &ComponentPlan) -> Result<(), SpaceError> {
        let bad = SpaceError { what: "reach its frames", status: Status::BadPar };
        let zeroed = c.frames.iter().all(|&f| self.window.zero(f));
        let written = c.contents.iter().all(|content| self.write(content));
        let info = plan.start_info(index, &self.machine).ok_or(bad)?;
        let told = self.window.write(c.info.start, info.as_bytes());
        if zeroed && written && told { Ok(()) } else { Err(bad) }
    }

    fn write(&self, content: &Content) -> bool {
        let bytes = match &content.source {
            Source::Text(text) => Some(text.as_bytes()),
            Source::Module(index, range) => self.modules.get(*index).and_then(|m| m.bytes.get(range.clone())),
        };
        bytes.is_some_and(|b| self.window.write(content.phys, b))
    }

    fn map(&self, c: &ComponentPlan, o: &Objects) -> Result<(), SpaceError> {
        let map = |m: &policy::Mapping| self.nova.map(o.hst, m.virt, m.phys, m.len, m.perms);
        c.mappings.iter().try_for_each(map).tried("map its memory")
    }

    fn give_basics(&self, c: &ComponentPlan, o: &Objects) -> Result<(), SpaceError> {
        let mut pd = perm::Pd::PT | perm::Pd::SM;
        // Spaces and virtual CPUs are of use for guests only. Who creates ECs chooses their CPU, and nobody can ask an EC for
        // it later. So a component that may not use all CPUs gets its ECs from us only, as all do that may have no guests.
        if c.guests {
            pd |= perm::Pd::PD;
            pd.set(perm::Pd::EC, c.cpus.len() == usize::from(self.machine.cpus));
        }
        let space = (perm::Space::TAKE | perm::Space::GRANT).bits();
        // Not its PIO space: ports that come by a session are to be where they can be taken back.
        [(o.pd, sel::PD, pd.bits()), (o.obj, sel::OBJ, space), (o.hst, sel::HST, space)]
            .into_iter()
            .try_for_each(|(own, to, pmm)| space::give(o.obj, own, to, pmm))
            .tried("give it its own domain")
    }

    fn create_first_thread(&self, c: &ComponentPlan, o: &mut Objects) -> Result<(), SpaceError> {
        let what = "create its first thread";
        o.ec = space::free_selector().tried(what)?;
        o.sc = space::free_selector().tried(what)?;
        let args = EcArgs {
            utcb_page: layout::UTCBS,
            cpu: c.first_cpu(),
            sp: layout::STACK_TOP,
            evt: sel::events(c.first_cpu()),
            guest: false,
            global_or_offset: true,
            fpu: true,
        };
        space::create_component_ec(o.ec, o.pd, args).tried(what)?;
        space::give(o.obj, o.ec, sel::EC, perm::Ec::CTRL.bits()).tried(what)
    }

    /// Lets a component run.
    pub fn start(&self, c: &Running) -> Result<(), SpaceError> {
        let what = "start its first thread";
        let o = &c.objects;
        let scd = Scd { cos: 0, prio: c.priority, budget_ms: BUDGET_MS };
        // On another CPU it starts at once; the handler of its STARTUP waits until it has the capability.
        let _waits = c.hold_start();
        hypercall::create_sc(o.sc, o.pd, o.ec, scd).tried(what)?;
        space::give(o.obj, o.sc, sel::SC, perm::Sc::CTRL.bits()).tried(what)
    }
}
