package caddymodule_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/api"
)

// Over Caddy's remote administration, operators are who their certificates say,
// and do what Caddy's access control lets them.
func TestRemoteAdministrationKnowsItsOperatorsByTheirCertificates(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "grace"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)

	dir, admin, remote := t.TempDir(), freeAddress(t), freeAddress(t)
	config, err := json.Marshal(map[string]any{
		"admin": map[string]any{
			"listen":   admin,
			"config":   map[string]any{"persist": false},
			"identity": map[string]any{"identifiers": []string{"localhost"}, "issuers": []any{map[string]any{"module": "internal"}}},
			"remote": map[string]any{"listen": remote, "access_control": []any{map[string]any{
				"public_keys": []string{base64.StdEncoding.EncodeToString(der)},
				"permissions": []any{
					map[string]any{"paths": []string{"/sallyport/v1"}, "methods": []string{"GET"}},
					map[string]any{"paths": []string{"/sallyport/v1/accounts"}, "methods": []string{"POST"}},
				},
			}}},
		},
		"apps": map[string]any{
			"sallyport": map[string]any{"store": map[string]any{"driver": "sqlite", "path": "sallyport.db"}},
			"pki":       map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}},
		},
	})
	require.NoError(t, err)
	file := filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(file, config, 0o600))
	p := launch(t, homeless(dir), dir, "run", "--config", file)

	client := func(certificates ...tls.Certificate) *api.Client {
		c, err := api.NewClient("https://localhost:"+port(remote)+"/sallyport/v1", &http.Client{Transport: &http.Transport{
			// The server's certificate is of an authority that the test did not keep.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates, ServerName: "localhost"}, //nolint:gosec
		}})
		require.NoError(t, err)
		c.Operator = "somebody else"
		return c
	}
	grace := client(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	p.waitFor(t, "remote administration is up", func() bool { _, err := grace.Roles(t.Context()); return err == nil })

	account, err := grace.CreateAccount(t.Context(), api.NewAccount{Name: "Example Ltd"})
	require.NoError(t, err)
	page, err := grace.AuditPage(t.Context(), api.AuditFilter{Target: string(account.ID)})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	require.Equal(t, "CN=grace", page.Items[0].Actor.Name)
	require.True(t, page.Items[0].Actor.Verified)

	_, err = grace.DisableAccount(t.Context(), account.ID)
	require.NoError(t, err, "below a path that may be posted to")
	_, err = grace.CreateUser(t.Context(), api.NewUser{AccountID: account.ID, Name: "Ada", Role: "member"})
	require.Error(t, err, "Caddy's access control names no such path")

	_, err = client().Roles(t.Context())
	require.Error(t, err, "nobody asks without a certificate")
	require.Zero(t, p.interrupt(t))
}
