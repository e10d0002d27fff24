//go:build hosts

package scenario

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
)

// enclosedVariable says that this process is the one in surroundings of its own.
const enclosedVariable = "LOCKSTEP_TEST_ENCLOSED"

func init() { enclosed = enclose }

// enclose runs the tests once more, as a process with a network and a /run of its own: whatever it makes is gone when it ends, however
// it ends, and nothing of the machine's network is touched.
func enclose(m *testing.M) int {
	if os.Getenv(enclosedVariable) != "" {
		if err := settle(); err != nil {
			return refuse(err)
		}
		return m.Run()
	}
	if _, err := exec.LookPath("ip"); err != nil {
		fmt.Fprintln(os.Stderr, "hosts: there is no ip here, which makes network namespaces: install iproute2")
		return 1
	}
	if _, err := bustest.Program(); err != nil { // there is no network to fetch it from inside
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		return refuse(err)
	}
	inside := exec.Command(self, os.Args[1:]...)
	inside.Env = append(os.Environ(), enclosedVariable+"=1")
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 { // who is not root may be so in a user namespace
		inside.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		inside.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		inside.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := inside.Start(); err != nil {
		return refuse(err)
	}
	_ = inside.Wait() // its exit code says it
	if code := inside.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return 1
}

func refuse(err error) int {
	fmt.Fprintf(os.Stderr, "hosts: network namespaces are not permitted here: %v\n"+
		"run this as root, or let users make namespaces (sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0);\n"+
		"a container needs --cap-add SYS_ADMIN --cap-add NET_ADMIN, or --privileged\n", err)
	return 1
}

// settle makes the surroundings: names of namespaces that nobody else sees, and a router.
func settle() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if out, err := exec.Command("ip", "netns", "add", "probe").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return exec.Command("ip", "netns", "delete", "probe").Run()
}

// networks counts those that were made: each has its own addresses and names.
var networks atomic.Int32

// A network is hosts around a router, which is where the test is. Packets between two hosts cross the router, which drops those in the
// directions that are cut, without a word to either end; the test itself reaches every host always.
type network struct {
	t     testing.TB
	id    int32
	hosts []*host
}

// A host is a network namespace with one address.
type host struct {
	network *network
	name    string
	address string
}

func newNetwork(t testing.TB) *network { return &network{t: t, id: networks.Add(1)} }

// host makes a host.
func (n *network) host(name string) *host {
	n.t.Helper()
	h := &host{network: n, name: fmt.Sprintf("%s-%d", name, n.id)}
	n.hosts = append(n.hosts, h)
	router := fmt.Sprintf("10.%d.%d.1", n.id, len(n.hosts))
	h.address = fmt.Sprintf("10.%d.%d.2", n.id, len(n.hosts))
	n.ip("netns add " + h.name)
	n.t.Cleanup(func() { n.ip("netns delete " + h.name) })
	n.ip("link add " + h.name + " type veth peer name eth0 netns " + h.name)
	n.ip("address add " + router + "/30 dev " + h.name)
	n.ip("link set " + h.name + " up")
	n.ip("-n " + h.name + " address add " + h.address + "/30 dev eth0")
	n.ip("-n " + h.name + " link set eth0 up")
	n.ip("-n " + h.name + " link set lo up")
	n.ip("-n " + h.name + " route add default via " + router)
	return h
}

func (n *network) ip(arguments string) {
	n.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", arguments, err, out)
	}
}

// silence drops what goes from one host to another. The other direction stays as it is.
func (h *host) silence(to *host) {
	h.network.t.Helper()
	h.network.ip("rule add from " + h.address + " to " + to.address + " blackhole")
}

// cut drops everything between hosts.
func (h *host) cut(others ...*host) {
	h.network.t.Helper()
	for _, other := range others {
		h.silence(other)
		other.silence(h)
	}
}

// others are all hosts but some.
func (n *network) others(but ...*host) (rest []*host) {
	for _, h := range n.hosts {
		out := false
		for _, b := range but {
			out = out || h == b
		}
		if !out {
			rest = append(rest, h)
		}
	}
	return rest
}

// heal lets everything through again. The three rules that every network namespace has are in others' places.
func (n *network) heal() {
	n.t.Helper()
	out, err := exec.Command("ip", "rule", "list").Output()
	must(n.t, err)
	for line := range strings.Lines(string(out)) {
		_, rule, _ := strings.Cut(strings.TrimSpace(line), ":")
		if fields := strings.Fields(rule); len(fields) == 5 && fields[4] == "blackhole" && strings.HasPrefix(fields[1], fmt.Sprintf("10.%d.", n.id)) {
			n.ip("rule del " + strings.Join(fields, " "))
		}
	}
}

// listens says whether something accepts connections on a port.
func (h *host) listens(port string) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort(h.address, port))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
