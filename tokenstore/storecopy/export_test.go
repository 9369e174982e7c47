package storecopy

import "github.com/sallyport/sallyport/tokenstore/internal/catalogue"

// Tables names what is copied, and the head.
func Tables() []string {
	names := []string{head}
	for _, t := range tables {
		names = append(names, t.name)
	}
	return names
}

// Agree says whether both databases have the tables of the list, with the same columns.
func Agree(from, to []catalogue.Table) error {
	_, _, err := relate(from, to)
	return err
}
