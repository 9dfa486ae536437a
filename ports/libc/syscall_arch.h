/* How musl makes a system call here: by a function of the runtime (roottask/rt/src/linux.rs). */
#define __SYSCALL_LL_E(x) (x)
#define __SYSCALL_LL_O(x) (x)
#define IPC_64 0

long __ferronova_syscall(long, long, long, long, long, long, long);

static __inline long __syscall0(long n)
{
	return __ferronova_syscall(n, 0, 0, 0, 0, 0, 0);
}
static __inline long __syscall1(long n, long a)
{
	return __ferronova_syscall(n, a, 0, 0, 0, 0, 0);
}
static __inline long __syscall2(long n, long a, long b)
{
	return __ferronova_syscall(n, a, b, 0, 0, 0, 0);
}
static __inline long __syscall3(long n, long a, long b, long c)
{
	return __ferronova_syscall(n, a, b, c, 0, 0, 0);
}
static __inline long __syscall4(long n, long a, long b, long c, long d)
{
	return __ferronova_syscall(n, a, b, c, d, 0, 0);
}
static __inline long __syscall5(long n, long a, long b, long c, long d, long e)
{
	return __ferronova_syscall(n, a, b, c, d, e, 0);
}
static __inline long __syscall6(long n, long a, long b, long c, long d, long e, long f)
{
	return __ferronova_syscall(n, a, b, c, d, e, f);
}
