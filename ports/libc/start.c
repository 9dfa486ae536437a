/* What musl does before and behind main, as far as the runtime does not: linked with each C program. */
#include <errno.h>
#include "libc.h"
#include "atomic.h"
#include "pthread_impl.h"
#include "stdio_impl.h"

struct __pthread __ferronova_thread = { .locale = &__libc.global_locale };

int *__errno_location(void);
/* musl's own name for it. */
hidden int *___errno_location(void)
{
	return __errno_location();
}

hidden void __funcs_on_exit(void);
_Noreturn void __real_exit(int);
_Noreturn void __wrap_exit(int code)
{
	__funcs_on_exit();
	__stdio_exit();
	__real_exit(code);
}

int __real_main(int, char **, char **);
int __wrap_main(int argc, char **argv, char **envp)
{
	__libc.page_size = 4096;
	__wrap_exit(__real_main(argc, argv, envp));
}

/* There are no processes. musl's is an instruction. */
hidden int __clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
	return -ENOSYS;
}

/* Where signal handlers would return to, if there were signals. */
hidden void __restore_rt(void)
{
	a_crash();
}
hidden void __restore(void)
{
	a_crash();
}
