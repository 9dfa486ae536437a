/* The one thread that musl knows: what is behind FS is the runtime's. */
struct __pthread;
extern struct __pthread __ferronova_thread;
static inline uintptr_t __get_tp()
{
	return (uintptr_t)&__ferronova_thread;
}
#define MC_PC gregs[REG_RIP]
