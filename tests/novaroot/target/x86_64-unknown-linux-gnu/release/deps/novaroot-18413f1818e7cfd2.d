/tmp/wt/ci/tests/novaroot/target/x86_64-unknown-linux-gnu/release/deps/novaroot-18413f1818e7cfd2.d: src/main.rs src/boot.rs src/console.rs src/events.rs src/interrupts.rs src/ipc.rs src/memory.rs src/nova.rs src/objects.rs src/power.rs src/semaphores.rs src/spaces.rs src/vcpu.rs src/world.rs Cargo.toml

/tmp/wt/ci/tests/novaroot/target/x86_64-unknown-linux-gnu/release/deps/libnovaroot-18413f1818e7cfd2.rmeta: src/main.rs src/boot.rs src/console.rs src/events.rs src/interrupts.rs src/ipc.rs src/memory.rs src/nova.rs src/objects.rs src/power.rs src/semaphores.rs src/spaces.rs src/vcpu.rs src/world.rs Cargo.toml

src/main.rs:
src/boot.rs:
src/console.rs:
src/events.rs:
src/interrupts.rs:
src/ipc.rs:
src/memory.rs:
src/nova.rs:
src/objects.rs:
src/power.rs:
src/semaphores.rs:
src/spaces.rs:
src/vcpu.rs:
src/world.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
# env-dep:CLIPPY_CONF_DIR
