/* A file system that is poorer than the one below it: test_file_systems.py compiles this and puts it before the C library.

   Calls that concern what lies under $LAYER_AT take $LAYER_SECONDS longer, and with $LAYER_REFUSES there are no locks and
   folders cannot be synced, as on some Lustre, CIFS and FUSE. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int concerns(const char *path) {
    const char *at = getenv("LAYER_AT");
    return at && path && !strncmp(path, at, strlen(at));
}

static int concerns_open(int fd) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return concerns(path);
}

static int refuses(void) { return getenv("LAYER_REFUSES") != NULL; }

static int slow(int is_here) {
    const char *text = getenv("LAYER_SECONDS");
    if (is_here && text) {
        double s = atof(text);
        struct timespec left = {(time_t)s, (long)((s - (time_t)s) * 1e9)};
        while (nanosleep(&left, &left) && errno == EINTR) {}
    }
    return is_here;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int flock(int fd, int operation) {
    extern int flock(int, int);
    if (slow(concerns_open(fd)) && refuses()) return errno = ENOTSUP, -1;
    return NEXT(flock)(fd, operation);
}

int fsync(int fd) {
    struct stat about;
    if (slow(concerns_open(fd)) && refuses() && !fstat(fd, &about) && S_ISDIR(about.st_mode)) return errno = EINVAL, -1;
    return NEXT(fsync)(fd);
}

ssize_t write(int fd, const void *content, size_t n) {
    if (fd > 2) slow(concerns_open(fd));
    return NEXT(write)(fd, content, n);
}

int rename(const char *from, const char *to) { slow(concerns(to)); return NEXT(rename)(from, to); }
int unlink(const char *path) { slow(concerns(path)); return NEXT(unlink)(path); }
int mkdir(const char *path, mode_t mode) { slow(concerns(path)); return NEXT(mkdir)(path, mode); }

#define OPENS(name)                                         \
    int name(const char *path, int flags, ...) {            \
        va_list more;                                       \
        va_start(more, flags);                              \
        mode_t mode = va_arg(more, mode_t);                 \
        va_end(more);                                       \
        slow(concerns(path));                               \
        return NEXT(name)(path, flags, mode);               \
    }
OPENS(open)
OPENS(open64)
