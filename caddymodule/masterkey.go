package caddymodule

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/tokenstore"
)

// keySource is where the master keys come from, read as far as validating a
// configuration may go: nothing has been written.
type keySource struct {
	ring    *tokenstore.Ring
	warning string
	// file is set when the keys live in the store's default key file; seed then
	// holds the bytes of the key that will be written there if it is missing.
	// Drawing them ahead of writing them lets the same keys have the same
	// fingerprint before and after the first start.
	file string
	seed []byte
}

// aReference matches the one form that master_key may have: the whole value is
// one placeholder that points elsewhere.
var aReference = regexp.MustCompile(`^\{(env|file)\.([^{}\s]+)\}$`)

var errLiteralKey = errors.New("master_key must not stand in the configuration itself, which Caddy shows under /config/ and saves to disk: " +
	"write {file./path/to/keys} or {env.NAME} ({$NAME} would be replaced by the value before Caddy stores the configuration)")

// checkKeyReference refuses a literal key, without repeating it.
func checkKeyReference(value string) error {
	if !aReference.MatchString(value) {
		return errLiteralKey
	}
	return nil
}

// readKeySource reads the keys that the configuration names, or the store's key
// file, or draws a key for a store that is new.
func readKeySource(value string, driver StoreDriver, random io.Reader) (keySource, error) {
	if value == "" {
		return readKeyFile(driver, random)
	}
	match := aReference.FindStringSubmatch(value)
	if match == nil {
		return keySource{}, errLiteralKey
	}
	kind, name := match[1], match[2]
	if kind == "file" {
		loaded, err := tokenstore.LoadRing(name, nil)
		if err != nil {
			return keySource{}, fmt.Errorf("master_key: %w", err)
		}
		return keySource{ring: loaded.Ring, warning: loaded.Warning}, nil
	}
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return keySource{}, fmt.Errorf("master_key: the environment variable %s is not set: set it to lines ID:KEY, where `openssl rand -base64 32` makes KEY", name)
	}
	ring, err := tokenstore.ParseRing(strings.NewReader(text))
	if err != nil {
		return keySource{}, fmt.Errorf("master_key, from the environment variable %s: %w", name, err)
	}
	return keySource{ring: ring}, nil
}

// readKeyFile reads the key file beside the store. One that is missing may only
// be made for a store that is missing too: a new key would leave every token of
// an old one unknown.
func readKeyFile(driver StoreDriver, random io.Reader) (keySource, error) {
	file := driver.KeyFile()
	if file == "" {
		return keySource{}, errors.New("this store needs a master_key line: write master_key {file./path/to/keys} or {env.NAME}, with lines ID:KEY, where `openssl rand -base64 32` makes KEY")
	}
	loaded, err := tokenstore.LoadRing(file, nil)
	if err == nil {
		return keySource{ring: loaded.Ring, warning: loaded.Warning, file: file}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return keySource{}, fmt.Errorf("master key: %w", err)
	}
	exists, err := driver.Exists()
	if err != nil {
		return keySource{}, fmt.Errorf("look for the store: %w", err)
	}
	if exists {
		return keySource{}, fmt.Errorf("the store is there but its master key file %s is not, and without it no token in the store works: "+
			"put the key file back from your backup, or name the place it was moved to with master_key {file./path}; "+
			"to give up all tokens and start anew, move the database away", file)
	}
	seed := make([]byte, 32)
	if _, err := io.ReadFull(random, seed); err != nil {
		return keySource{}, fmt.Errorf("draw a master key: %w", err)
	}
	ring, err := tokenstore.NewRing(bytes.NewReader(seed))
	if err != nil {
		return keySource{}, err
	}
	return keySource{ring: ring, file: file, seed: seed}, nil
}

// settle makes the keys durable if they are new. It comes before the store is
// made: a store whose key was lost to a crash in between could never be used.
func (k *keySource) settle() error {
	if k.seed == nil {
		return nil
	}
	if err := makeParent(k.file); err != nil {
		return fmt.Errorf("make the directory of the master key file: %w", err)
	}
	loaded, err := tokenstore.LoadRing(k.file, bytes.NewReader(k.seed))
	if err != nil {
		return err
	}
	// Another process may have been first; then its key is everybody's.
	k.ring, k.warning, k.seed = loaded.Ring, loaded.Warning, nil
	return nil
}

// fingerprint tells rings apart without giving a key away.
func fingerprint(ring *tokenstore.Ring) [sha256.Size]byte {
	h := sha256.New()
	for _, id := range ring.IDs() {
		check, _ := ring.CheckValue(id)
		fmt.Fprintf(h, "%d:%s %s\n", len(id), id, check)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
