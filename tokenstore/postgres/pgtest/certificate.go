package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certify gives the server a certificate for localhost that it signed itself.
func (s *Server) certify() {
	s.t.Helper()
	certificate, key, err := selfSigned()
	if err == nil {
		for name, block := range map[string]*pem.Block{
			"server.crt": {Type: "CERTIFICATE", Bytes: certificate},
			"server.key": {Type: "EC PRIVATE KEY", Bytes: key},
		} {
			path := filepath.Join(s.dir, name)
			err = errors.Join(err, os.WriteFile(path, pem.EncodeToMemory(block), 0o600), giveToPostgres(path))
		}
	}
	if err != nil {
		s.t.Fatalf("pgtest: %v", err)
	}
}

// Certificate is a file with the certificate that the server shows.
func (s *Server) Certificate() string { return filepath.Join(s.dir, "server.crt") }

// AnotherCertificate is a file with a certificate that no server shows.
func AnotherCertificate(t testing.TB) string {
	t.Helper()
	certificate, _, err := selfSigned()
	path := filepath.Join(t.TempDir(), "another.crt")
	if err == nil {
		err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600)
	}
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return path
}

func selfSigned() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate, err = x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalECPrivateKey(private)
	return certificate, key, err
}
