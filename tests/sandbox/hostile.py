"""Hostile programs: each prints ESCAPED if it reaches what it should not, and may cost no more than its limits.

`{canary}` is a file of the host, `{port}` a port on which the host listens, `{pid}` a process of the host.
"""

from typing import NamedTuple


class Hostile(NamedTuple):
    language: str
    source: str
    # Statuses besides which the program may not end; empty: any, as long as nothing escapes.
    ends: tuple[str, ...] = ()


def _python(body: str) -> str:
    """Return a program that tries `body`, an expression that is true where it escaped, or statements."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"import os, sys\ntry:\n{lines}\n    print('ESCAPED')\nexcept BaseException as e:\n    print('held', type(e).__name__)\n"


def _c(body: str, extra: str = "") -> str:
    heads = "stdio stdlib string unistd fcntl errno signal sys/types sys/stat sys/wait sys/socket sys/mman sys/ptrace "
    heads += "sys/mount sys/syscall netinet/in arpa/inet sched"
    includes = "\n".join(f"#include <{head}.h>" for head in heads.split())
    return f"#define _GNU_SOURCE\n{includes}\n{extra}\nint main(void) {{\n{body}\nreturn 0; }}\n"


def _java(body: str, extra: str = "") -> str:
    return (
        "import java.io.*; import java.net.*; import java.nio.file.*; import java.util.*;\n"
        f"public class Main {{ {extra} public static void main(String[] a) throws Exception {{\n"
        f'try {{ {body} }} catch (Throwable t) {{ System.out.println("held " + t.getClass()); }} }} }}\n'
    )


def _js(body: str) -> str:
    return f"try {{ {body} }} catch (e) {{ console.log('held', e.code) }}\n"


_LEAKS = "for k, v in os.environ.items():\n    if 'SECRET' in k: print('ESCAPED')\nassert 0"

_DESCRIPTORS = """for n in os.listdir('/proc/self/fd'):
    try: target = os.readlink(f'/proc/self/fd/{n}')
    except OSError: continue
    if int(n) > 2: print('ESCAPED', target)
assert 0"""

HOSTILE = {
    # Files of the host.
    "python reads a host file": Hostile("python", _python("assert 'canary' in open('{canary}').read()")),
    "python lists the host's root": Hostile(
        "python", _python("assert set(os.listdir('/')) & {'root', 'home', 'work', 'var'}")
    ),
    "python reads /etc/passwd": Hostile("python", _python("open('/etc/passwd').read()")),
    "python reads /etc/shadow": Hostile("python", _python("open('/etc/shadow').read()")),
    "python follows a symlink": Hostile(
        "python", _python("os.symlink('{canary}', '/tmp/link')\nopen('/tmp/link').read()")
    ),
    "python climbs out of proc": Hostile("python", _python("open('/proc/1/root{canary}').read()")),
    "python reads pid 1's memory": Hostile("python", _python("open('/proc/1/mem', 'rb').read(1)")),
    "python reads the environment": Hostile("python", _python(_LEAKS)),
    "python writes to the toolchain": Hostile("python", _python("open('/usr/bin/evil', 'w').write('x')")),
    "python writes to its stdlib": Hostile("python", _python("open(os.__file__, 'a').write('x')")),
    "python writes to the root": Hostile("python", _python("open('/evil', 'w').write('x')")),
    "python remounts": Hostile("python", _python("assert os.system('mount -o remount,rw /usr 2>/dev/null') == 0")),
    "python opens raw memory": Hostile("python", _python("open('/dev/mem', 'rb').read(1)")),
    "python opens a disk": Hostile("python", _python("open('/dev/vda', 'rb').read(1)")),
    "python chroots": Hostile("python", _python("os.chroot('/tmp')")),
    "python becomes root": Hostile("python", _python("os.setuid(0)\nassert os.getuid() == 0")),
    "python leaves by sudo": Hostile("python", _python("assert os.system('su -c id 2>/dev/null </dev/null') == 0")),
    "python finds an open descriptor": Hostile("python", _python(_DESCRIPTORS)),
    # The network.
    "python reaches a host port": Hostile(
        "python", _python("import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
    ),
    "python reaches the internet": Hostile(
        "python", _python("import socket\nsocket.create_connection(('1.1.1.1', 53), 2)")
    ),
    "python resolves a name": Hostile("python", _python("import socket\nsocket.gethostbyname('example.com')")),
    "python opens a raw socket": Hostile("python", _python("import socket\nsocket.socket(17, 3)")),
    # Processes.
    "python signals a host process": Hostile("python", _python("os.kill({pid}, 0)")),
    "python kills every process": Hostile("python", "import os\nos.kill(-1, 9)\n"),
    "python sees host processes": Hostile(
        "python", _python("assert len([p for p in os.listdir('/proc') if p.isdigit()]) > 20")
    ),
    "python forks for ever": Hostile("python", "import os\nwhile True:\n    os.fork()\n"),
    "python starts threads for ever": Hostile(
        "python", "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,)).start()\n"
    ),
    "python leaves a process behind": Hostile(
        "python",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(977)\nprint('done')\n",
    ),
    "python ignores signals": Hostile(
        "python",
        "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\nwhile 1: pass\n",
        ("timeout",),
    ),
    "python sleeps": Hostile("python", "import time\ntime.sleep(900)\n", ("timeout",)),
    "python closes its output": Hostile(
        "python", "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(900)\n", ("timeout",)
    ),
    # Memory, files, output.
    "python eats memory": Hostile(
        "python", "x = []\nwhile 1: x.append(bytearray(10**7))\n", ("runtime_error", "memory")
    ),
    "python eats shared memory": Hostile(
        "python",
        "import mmap\nx = []\nwhile 1:\n    m = mmap.mmap(-1, 10**7)\n    m.write(b'x' * 10**7)\n    x.append(m)\n",
        ("runtime_error", "memory"),
    ),
    "python makes files without end": Hostile(
        "python",
        "i = 0\nwhile 1:\n    i += 1\n    open(f'/tmp/{i}', 'w').close()\n",
        ("memory", "runtime_error", "timeout"),
    ),
    "python fills the disk": Hostile(
        "python", "i = 0\nwhile 1:\n    i += 1\n    open(f'/tmp/{i}', 'wb').write(b'x' * 10**6)\n", ("runtime_error",)
    ),
    "python fills shared memory files": Hostile(
        "python",
        "i = 0\nwhile 1:\n    i += 1\n    open(f'/dev/shm/{i}', 'wb').write(b'x' * 10**6)\n",
        ("runtime_error",),
    ),
    "python hides memory": Hostile("python", _python("os.memfd_create('x')")),
    "python prints for ever": Hostile("python", "while 1: print('x' * 1000)\n", ("output",)),
    "python complains for ever": Hostile("python", "import sys\nwhile 1: sys.stderr.write('x' * 1000)\n", ("output",)),
    "python parses deep nesting": Hostile("python", "(" * 50_000 + ")" * 50_000, ("compile_error",)),
    "javascript reads a host file": Hostile(
        "javascript", _js("require('fs').readFileSync('{canary}'); console.log('ESCAPED')")
    ),
    "javascript reads host files by a shell": Hostile(
        "javascript",
        _js("console.log(String(require('child_process').execSync('cat {canary} 2>/dev/null') + 'ESCAPED'))"),
    ),
    "javascript reaches a host port": Hostile(
        "javascript",
        "require('net').connect({port}, '127.0.0.1', () => console.log('ESCAPED')).on('error', e => console.log('held'))\n",
    ),
    "javascript signals a host process": Hostile("javascript", _js("process.kill({pid}, 0); console.log('ESCAPED')")),
    "javascript writes to the toolchain": Hostile(
        "javascript", _js("require('fs').writeFileSync('/usr/lib/evil', 'x'); console.log('ESCAPED')")
    ),
    "javascript loops": Hostile("javascript", "for (;;);\n", ("timeout",)),
    "javascript eats memory": Hostile(
        "javascript", "const x = []; for (;;) x.push(Buffer.alloc(1e7, 1));\n", ("runtime_error", "memory", "timeout")
    ),
    "javascript prints for ever": Hostile(
        "javascript", "const fs = require('fs'); for (;;) fs.writeSync(1, 'x'.repeat(1000));\n", ("output",)
    ),
    "c reads a host file": Hostile("c", _c('if (open("{canary}", O_RDONLY) >= 0) puts("ESCAPED");')),
    "c traces pid 1": Hostile("c", _c('if (ptrace(PTRACE_ATTACH, 1, 0, 0) == 0) puts("ESCAPED");')),
    "c lets itself be traced": Hostile("c", _c('if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0) puts("ESCAPED");')),
    "c makes namespaces": Hostile("c", _c('if (unshare(CLONE_NEWUSER) == 0) puts("ESCAPED");')),
    "c makes namespaces by clone": Hostile(
        "c",
        _c(
            'int p = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);\nif (p == 0) _exit(0);\nif (p > 0) puts("ESCAPED");'
        ),
    ),
    "c mounts": Hostile("c", _c('if (mount("none", "/tmp", "tmpfs", 0, "") == 0) puts("ESCAPED");')),
    "c loads a bpf program": Hostile("c", _c('if (syscall(SYS_bpf, 0, 0, 0) >= 0 || errno != EPERM) puts("ESCAPED");')),
    "c opens an io_uring": Hostile("c", _c('if (syscall(425, 8, 0) >= 0 || errno != EPERM) puts("ESCAPED");')),
    "c calls by 32-bit numbers": Hostile(
        "c",
        _c(
            '#ifdef __x86_64__\nint r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20)); if (r > 0) puts("ESCAPED");\n#endif'
        ),
    ),
    "c forks for ever": Hostile("c", _c("for (;;) fork();")),
    "c eats memory": Hostile(
        "c",
        _c("for (;;) { char *p = malloc(1 << 24); if (!p) return 3; memset(p, 1, 1 << 24); }"),
        ("runtime_error", "memory"),
    ),
    "c eats memory in many processes": Hostile(
        "c",
        _c(
            "for (int i = 0; i < 30; i++) if (!fork()) { char *p = malloc(100 << 20); if (p) memset(p, 1, 100 << 20); pause(); }\npause();"
        ),
        ("memory", "timeout"),
    ),
    "c hides shared memory": Hostile(
        "c",
        _c(
            "for (int i = 0; i < 9; i++) { char *p = mmap(0, 1 << 26, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);\n"
            'if (p == MAP_FAILED) return 3; memset(p, 1, 1 << 26); madvise(p, 1 << 26, MADV_DONTNEED); }\nputs("ESCAPED");'
        ),
        ("runtime_error",),
    ),
    "c takes a descriptor of another process": Hostile(
        "c", _c('if (syscall(434, getppid(), 0) >= 0 || errno != EPERM) puts("ESCAPED");')
    ),
    "c overflows the stack": Hostile(
        "c",
        _c("return f(1);", "int f(int n) { volatile char x[9999]; x[0] = n; return f(n + 1) + x[0]; }"),
        ("runtime_error",),
    ),
    "c includes an endless file": Hostile("c", '#include "/dev/zero"\n', ("compile_error", "timeout", "memory")),
    "c includes a host file": Hostile("c", '#include "{canary}"\nint main(void) { return 0; }\n', ("compile_error",)),
    "c embeds a host file": Hostile(
        "c", '__asm__(".incbin \\"{canary}\\"");\nint main(void) { return 0; }\n', ("compile_error",)
    ),
    "c makes a huge program": Hostile(
        "c",
        "char x[1ul << 40] = {1};\nint main(void) { return 0; }\n",
        ("compile_error", "timeout", "memory", "output"),
    ),
    "c includes itself": Hostile(
        "c",
        "#include __FILE__\n#include __FILE__\nint main(void) { return 0; }\n",
        ("compile_error", "timeout", "memory"),
    ),
}

# Those that need a slow compiler or virtual machine.
SLOW = {
    "c++ recurses in templates": Hostile(
        "c++",
        "template <int N, int M> struct A { static const int x = A<N - 1, M>::x + A<N, M - 1>::x + A<N - 1, M - 1>::x; };\n"
        "template <int M> struct A<0, M> { static const int x = M; };\ntemplate <int N> struct A<N, 0> { static const int x = N; };\n"
        "int main() { return A<800, 800>::x; }\n",
        ("compile_error", "timeout", "memory"),
    ),
    "c++ evaluates for ever": Hostile(
        "c++",
        "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; i++) s += i; return s; }\n"
        "static_assert(f(1L << 50) > 0); int main() {}\n",
        ("compile_error", "timeout"),
    ),
    "java reads a host file": Hostile(
        "java", _java('Files.readString(Path.of("{canary}")); System.out.println("ESCAPED");')
    ),
    "java starts a host program": Hostile(
        "java",
        _java('if (new ProcessBuilder("cat", "{canary}").start().waitFor() == 0) System.out.println("ESCAPED");'),
    ),
    "java reaches a host port": Hostile(
        "java", _java('new Socket("127.0.0.1", {port}); System.out.println("ESCAPED");')
    ),
    "java signals a host process": Hostile(
        "java", _java('if (ProcessHandle.of({pid}L).isPresent()) System.out.println("ESCAPED");')
    ),
    "java loops": Hostile("java", _java("for (;;);"), ("timeout",)),
    "java starts threads for ever": Hostile(
        "java", _java("for (;;) new Thread(() -> { try { Thread.sleep(99999); } catch (Exception e) {} }).start();")
    ),
    "java eats memory": Hostile(
        "java", _java("List<byte[]> x = new ArrayList<>(); for (;;) x.add(new byte[1 << 20]);")
    ),
    "javac runs an annotation processor": Hostile(
        "java",
        "import javax.annotation.processing.*; import javax.lang.model.element.*; import java.util.*;\n"
        'public class Main extends AbstractProcessor { static { System.out.println("ESCAPED"); }\n'
        "public boolean process(Set<? extends TypeElement> s, RoundEnvironment r) { return false; } }\n",
    ),
    "javac compiles a huge constant": Hostile(
        "java",
        'public class Main { static final String a = "'
        + "x" * 60_000
        + '";\n'
        + "\n".join(
            f"static final String a{i} = {'a' if i == 0 else f'a{i - 1}'} + {'a' if i == 0 else f'a{i - 1}'};"
            for i in range(30)
        )
        + "}",
        ("compile_error", "timeout", "memory", "output"),
    ),
}
