package arch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
)

// natsOptions reads deployments/nats/nats.conf as the server does, with its directories under dir.
func natsOptions(t *testing.T, dir string) *server.Options {
	t.Helper()
	b, err := os.ReadFile("../../deployments/nats/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "nats.conf")
	moved := strings.NewReplacer("/etc/nats/tls", dir, "/var/lib/nats", dir).Replace(string(b))
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// TestTheShippedNATSServesLockstep runs the configuration, and lets a publisher and an agent work with the rights that it gives.
func TestTheShippedNATSServesLockstep(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	for _, name := range []string{"server", "publisher", "a1.prod-eu", "a2.prod-eu"} {
		ca.issue(name)
	}
	opts := natsOptions(t, dir)
	if !opts.SyncAlways || !opts.TLSMap || opts.TLSConfig.ClientAuth != tls.RequireAndVerifyClientCert || opts.NoAuthUser != "" || opts.HTTPHost != "127.0.0.1" ||
		opts.JetStreamMaxStore == 0 || opts.JetStreamMaxMemory == 0 || opts.MaxConn == 0 {
		t.Errorf("durability, authentication or limits are missing")
	}
	opts.Host, opts.Port, opts.HTTPHost, opts.HTTPPort, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, "", 0, true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(bustest.Deadline) {
		t.Fatal("the server is not ready")
	}

	connect := func(name, certificate string) *bus.Conn {
		return bustest.Connect(t, "tls://"+ns.Addr().String(), func(o *bus.Options) {
			o.Name, o.CA = name, filepath.Join(dir, "ca.pem")
			o.Cert, o.Key = filepath.Join(dir, certificate+".pem"), filepath.Join(dir, certificate+".key")
			o.OnChange = func(ch bus.Change) {
				if ch.Connected && ch.Err != nil {
					t.Errorf("%s: %v", name, ch.Err)
				}
			}
		})
	}
	publisher, agent := connect("publisher", "publisher"), connect("prod-eu.a1", "a1.prod-eu")
	bustest.Streams(t, publisher)
	chain := bustest.NewChain(t, "prod-eu").Grow(3, "value")
	chain.Send(publisher, 1, 2)
	feed, err := agent.Feed(bus.FeedOptions{Environment: "prod-eu", Position: chain.At(0), Verify: chain.Verify})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	chain.Send(publisher, 3, 3)
	for feed.Position().Revision < 3 {
		if _, err := feed.Next(bustest.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := agent.PublishAck(bustest.Context(t), "prod-eu", "a1", []byte("ack"), ""); err != nil {
		t.Error(err)
	}
	if err := agent.PublishBeat("prod-eu", "a1", []byte("beat"), ""); err != nil {
		t.Error(err)
	}

	// A certificate of the same authority that nobody gave rights is nobody.
	stranger := bus.Options{
		Name: "prod-eu.a2", URL: "tls://" + ns.Addr().String(), CA: filepath.Join(dir, "ca.pem"),
		Cert: filepath.Join(dir, "a2.prod-eu.pem"), Key: filepath.Join(dir, "a2.prod-eu.key"),
	}
	if c, err := bus.Connect(bustest.Context(t), stranger); err == nil {
		c.Close()
		t.Error("an unknown certificate connects")
	}
}

// An authority issues certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	a := &authority{t: t, dir: dir}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.write("ca", a.cert, nil)
	return a
}

// issue writes a certificate for a name, valid on loopback, and its key.
func (a *authority) issue(name string) {
	a.write(name, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.key)
}

// write signs a certificate, by itself where there is no signer, and writes it beside its key.
func (a *authority) write(name string, template *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(a.dir, name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return key
}
