/* Preloaded into a server, tells the longest of its turns in CPU time: what its clients wait for by its own
 * doing, whatever else the machine is busy with.
 *
 *     cc -O2 -shared -fPIC -o turns.so turns.c
 *     LD_PRELOAD=$PWD/turns.so TURNS_LOG=log pinion
 *
 * A turn is what a thread does from one wait for events (io_uring_enter, epoll_wait) to the next, and what
 * the kernel does for it within that call. At its end the process writes a line: turns, and the most
 * nanoseconds of either. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

/* The first turns are the start of the server. */
#define STARTING 100

static atomic_ulong turns, longest_work_ns, longest_call_ns;
static __thread uint64_t returned_ns, seen;

static uint64_t cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void raise_to(atomic_ulong *longest, uint64_t ns)
{
    unsigned long before = atomic_load(longest);
    while (before < ns && !atomic_compare_exchange_weak(longest, &before, ns))
        ;
}

static uint64_t begin_wait(void)
{
    uint64_t now_ns = cpu_ns();
    if (++seen > STARTING) {
        atomic_fetch_add(&turns, 1);
        raise_to(&longest_work_ns, now_ns - returned_ns);
    }
    return now_ns;
}

static void end_wait(uint64_t begun_ns)
{
    returned_ns = cpu_ns();
    if (seen > STARTING)
        raise_to(&longest_call_ns, returned_ns - begun_ns);
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    va_list list;
    long args[6];
    va_start(list, number);
    for (int n = 0; n < 6; n++)
        args[n] = va_arg(list, long);
    va_end(list);
    if (!real)
        real = dlsym(RTLD_NEXT, "syscall");
    uint64_t begun_ns = number == SYS_io_uring_enter ? begin_wait() : 0;
    long result = real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (number == SYS_io_uring_enter)
        end_wait(begun_ns);
    return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout)
{
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real)
        real = dlsym(RTLD_NEXT, "epoll_wait");
    uint64_t begun_ns = begin_wait();
    int result = real(epoll, events, max, timeout);
    end_wait(begun_ns);
    return result;
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("TURNS_LOG");
    FILE *log = path ? fopen(path, "w") : NULL;
    if (log) {
        fprintf(log, "%lu %lu %lu\n", turns, longest_work_ns, longest_call_ns);
        fclose(log);
    }
}
