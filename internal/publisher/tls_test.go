package publisher_test

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
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/publisher"
)

func TestBeyondLoopbackNothingListensWithoutTLS(t *testing.T) {
	t.Parallel()
	for _, o := range []publisher.Options{
		{Listen: "0.0.0.0:0", NATSListen: "127.0.0.1:0"}, {Listen: "127.0.0.1:0", NATSListen: "0.0.0.0:0"}, {Listen: ":0", NATSListen: "127.0.0.1:0"},
		{Listen: "[::]:0", NATSListen: "127.0.0.1:0"}, {Listen: "192.0.2.1:0", NATSListen: "127.0.0.1:0"}, {Listen: "127.0.0.1:0", NATSListen: "example.org:0"},
	} {
		o.Data = t.TempDir()
		if _, err := publisher.New(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
			t.Errorf("%s, %s: %v", o.Listen, o.NATSListen, err)
		}
	}
	if _, err := publisher.New(t.Context(), publisher.Options{Data: t.TempDir(), Listen: "nonsense"}); err == nil {
		t.Error("an address without a port is taken")
	}
	if _, err := publisher.New(t.Context(), publisher.Options{}); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Error(err)
	}
}

// authority signs certificates for 127.0.0.1.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	File string
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.File, _, a.key = a.write(name, a.cert, a.cert, nil)
	return a
}

// issue makes a certificate for servers and clients.
func (a *authority) issue(name string) (cert, key string) {
	cert, key, _ = a.write(name, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, a.key)
	return cert, key
}

func (a *authority) write(name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (certFile, keyFile string, key *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(a.t, err)
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	must(a.t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(a.t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return certFile, keyFile, key
}

func TestBeyondLoopbackOnlyClientsWithACertificateAreServed(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key := ours.issue("publisher")
	p := start(t, t.TempDir(), func(o *publisher.Options) {
		o.Listen, o.NATSListen, o.TLS = "0.0.0.0:0", "0.0.0.0:0", &publisher.TLS{Cert: cert, Key: key, ClientCA: ours.File}
	})
	addEnvironments(t, p, "dev") // the publisher reaches its own bus
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.URL(), "https://"))
	must(t, err)
	_, busPort, err := net.SplitHostPort(p.BusURL()[strings.Index(p.BusURL(), "//")+2:])
	must(t, err)

	pool := x509.NewCertPool()
	authorityPEM, err := os.ReadFile(ours.File)
	must(t, err)
	pool.AppendCertsFromPEM(authorityPEM)
	goodCert, goodKey := ours.issue("client")
	badCert, badKey := theirs.issue("client")
	for name, c := range map[string]struct {
		cert, key string
		served    bool
	}{"ours": {goodCert, goodKey, true}, "theirs": {badCert, badKey, false}, "none": {"", "", false}} {
		config := &tls.Config{RootCAs: pool}
		if c.cert != "" {
			pair, err := tls.LoadX509KeyPair(c.cert, c.key)
			must(t, err)
			config.Certificates = []tls.Certificate{pair}
		}
		transport := &http.Transport{TLSClientConfig: config}
		response, err := (&http.Client{Transport: transport}).Get("https://127.0.0.1:" + port + "/healthz")
		if err == nil {
			must(t, response.Body.Close())
		}
		transport.CloseIdleConnections()
		if (err == nil) != c.served {
			t.Errorf("%s: API: %v", name, err)
		}
		conn, err := bus.Connect(bustest.Context(t), bus.Options{Name: "client", URL: "tls://127.0.0.1:" + busPort, CA: ours.File, Cert: c.cert, Key: c.key})
		if err == nil {
			conn.Close()
		}
		if (err == nil) != c.served {
			t.Errorf("%s: bus: %v", name, err)
		}
	}
	if response, err := http.Get("http://127.0.0.1:" + port + "/healthz"); err == nil {
		must(t, response.Body.Close())
		if response.StatusCode == http.StatusOK {
			t.Error("the API is served without TLS")
		}
	}
}
