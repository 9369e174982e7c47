package tokenstore_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
)

func TestAnEncryptedValueOpensOnlyWhereItBelongs(t *testing.T) {
	ring, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	other, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	id, value := ring.IDs()[0], []byte("whsec_of_the_test")

	sealed, err := ring.Encrypt(id, "whk_1", value)
	require.NoError(t, err)
	again, err := ring.Encrypt(id, "whk_1", value)
	require.NoError(t, err)
	require.NotEqual(t, sealed, again, "nothing shows that two values are the same")
	require.False(t, bytes.Contains(sealed, value))
	opened, err := ring.Decrypt(id, "whk_1", sealed)
	require.NoError(t, err)
	require.Equal(t, value, opened)

	_, err = ring.Decrypt(id, "whk_2", sealed)
	require.ErrorIs(t, err, tokenstore.ErrSealed)
	_, err = other.Decrypt(other.IDs()[0], "whk_1", sealed)
	require.ErrorIs(t, err, tokenstore.ErrSealed)
	_, err = ring.Decrypt("absent", "whk_1", sealed)
	require.ErrorIs(t, err, tokenstore.ErrSealed)
	_, err = ring.Encrypt("absent", "whk_1", value)
	require.ErrorIs(t, err, tokenstore.ErrSealed)
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 1
		_, err = ring.Decrypt(id, "whk_1", broken)
		require.ErrorIs(t, err, tokenstore.ErrSealed)
	}
	_, err = ring.Decrypt(id, "whk_1", sealed[:5])
	require.ErrorIs(t, err, tokenstore.ErrSealed)
}
