package demo

var ReadMail = readMail
