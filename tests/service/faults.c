/* A disk with faults: calls that write fail where a file says so. Each of its lines is a kind and the
 * beginning of paths, as `full /data/journal`: `full` has no room, `unsynced` cannot sync, `readonly` opens
 * nothing to write. The file is read at every call, so that faults begin and end while a program runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 4096 };

/* The lines; whether there are any. */
static int faults(char *text, size_t bytes) {
    const char *path = getenv("TELLTALE_TEST_FAULTS");
    long file = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t len = read((int)file, text, bytes - 1);
    close((int)file);
    text[len > 0 ? len : 0] = 0;
    return len > 0;
}

static int has(char *text, const char *kind, const char *path) {
    for (char *rest, *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *begin = strchr(line, ' ');
        if (!begin) continue;
        *begin++ = 0;
        if (!strcmp(line, kind) && !strncmp(path, begin, strlen(begin))) return 1;
    }
    return 0;
}

static int has_fault(const char *kind, const char *path) {
    char text[4096];
    return faults(text, sizeof text) && has(text, kind, path);
}

static int file_has_fault(const char *kind, int file) {
    char text[4096], link[32], path[4096];
    if (!faults(text, sizeof text)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return has(text, kind, path);
}

/* How much of a write fits. A block that a file has is filled, and the last new one that a write needs is
 * not there any more, so that a long write is cut. */
static size_t room(off_t at, size_t bytes) {
    off_t last = (at + (off_t)bytes - 1) / BLOCK * BLOCK;
    if (last > at) return (size_t)(last - at);
    return at % BLOCK ? bytes : 0;
}

static ssize_t no_room(void) {
    errno = ENOSPC;
    return -1;
}

ssize_t write(int file, const void *from, size_t bytes) {
    if (bytes && file_has_fault("full", file)) {
        struct stat stat;
        int appends = fcntl(file, F_GETFL) & O_APPEND && !fstat(file, &stat);
        bytes = room(appends ? stat.st_size : lseek(file, 0, SEEK_CUR), bytes);
        if (!bytes) return no_room();
    }
    return syscall(SYS_write, file, from, bytes);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (!file_has_fault("full", file)) return syscall(SYS_writev, file, parts, count);
    while (count > 1 && !parts->iov_len) parts++, count--;
    return write(file, parts->iov_base, parts->iov_len);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off_t at) {
    if (bytes && file_has_fault("full", file)) {
        bytes = room(at, bytes);
        if (!bytes) return no_room();
    }
    return syscall(SYS_pwrite64, file, from, bytes, at);
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t at) {
    return pwrite64(file, from, bytes, at);
}

static int synced(long call, int file) {
    if (file_has_fault("unsynced", file)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) {
    return synced(SYS_fsync, file);
}

int fdatasync(int file) {
    return synced(SYS_fdatasync, file);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (flags & (O_WRONLY | O_RDWR | O_CREAT) && has_fault("readonly", path)) {
        errno = EROFS;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
