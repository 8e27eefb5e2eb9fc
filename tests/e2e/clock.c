/* The clocks of a process into which it is preloaded, as `clock.py` sets them: each is ahead of the machine's by
   what the file named by TEST_CLOCK says, nanoseconds in the machine's own order of bytes. They are one word of shared
   memory, so that no thread ever sees another time than the one before or the one after. What waits in the kernel
   until an absolute time goes by the machine's clock: this one may only be advanced. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
static const int64_t none = 0;
static const int64_t *ahead = &none;

__attribute__((constructor)) static void open_clock(void) {
    int file = open(getenv("TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED)
        abort();
    close(file);
    ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now) != 0)
        return -1;
    int is_time = clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID;
    int64_t nanoseconds = now->tv_nsec + (is_time ? __atomic_load_n(ahead, __ATOMIC_SEQ_CST) : 0);
    now->tv_sec += nanoseconds / SECOND;
    now->tv_nsec = nanoseconds % SECOND;
    return 0;
}
