package embedded_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
)

func start(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	o.Log = zerolog.Nop()
	s, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func TestServerListensOnLoopbackAndKeepsItsStore(t *testing.T) {
	dir := t.TempDir()
	for last := range uint64(3) {
		s := start(t, embedded.Options{StoreDir: dir})
		if !strings.HasPrefix(s.ClientURL(), "nats://127.0.0.1:") {
			t.Errorf("listens at %s", s.ClientURL())
		}
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		c, err := bus.Connect(t.Context(), bus.Options{Name: "publisher", InProcess: s})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.EnsureStreams(t.Context(), bus.StreamOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Append(t.Context(), []byte("entry"), last); err != nil {
			t.Error(err)
		}
		c.Close()
		s.Shutdown()
	}
}

func TestServerThatOthersCouldReachWithoutTLSIsRefused(t *testing.T) {
	for name, o := range map[string]embedded.Options{
		"no TLS":      {StoreDir: t.TempDir(), Host: "0.0.0.0"},
		"no CA":       {StoreDir: t.TempDir(), Host: "0.0.0.0", TLS: &embedded.TLS{Cert: "cert.pem", Key: "key.pem"}},
		"a name":      {StoreDir: t.TempDir(), Host: "bus.example.com"},
		"no store":    {},
		"missing PEM": {StoreDir: t.TempDir(), TLS: &embedded.TLS{Cert: "no.pem", Key: "no.pem", CA: "no.pem"}},
	} {
		if s, err := embedded.Start(o); err == nil {
			s.Shutdown()
			t.Errorf("%s: started", name)
		} else if !strings.Contains(err.Error(), "embedded bus: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPortThatIsTakenIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := embedded.Start(embedded.Options{StoreDir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port, Log: zerolog.Nop()})
	if err == nil {
		s.Shutdown()
		t.Fatal("started on a port that is taken")
	}
	if !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
}

func TestClientsWithoutACertificateAreTurnedAway(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, dir, "server")
	clientCert, clientKey := ca.issue(t, dir, "agent")
	s := start(t, embedded.Options{StoreDir: t.TempDir(), TLS: &embedded.TLS{Cert: cert, Key: key, CA: ca.file}})

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := bus.Connect(ctx, bus.Options{Name: "agent", URL: s.ClientURL(), CA: ca.file, Cert: clientCert, Key: clientKey})
	if err != nil {
		t.Fatalf("with a certificate: %v", err)
	}
	c.Close()
	if c, err := bus.Connect(ctx, bus.Options{Name: "stranger", URL: s.ClientURL(), CA: ca.file}); err == nil {
		c.Close()
		t.Error("connected without a certificate")
	}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{template, key, filepath.Join(dir, "ca.pem")}
	write(t, a.file, "CERTIFICATE", der)
	return a
}

func (a *authority) issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	write(t, cert, "CERTIFICATE", der)
	write(t, key, "PRIVATE KEY", secret)
	return cert, key
}

func write(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
