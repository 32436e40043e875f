package main

import (
	"bytes"
	"encoding/binary"
)

// Since Go 1.22, programs need the function ProcessPrng of bcryptprimitives.dll, and load
// that library from the system folder only. Wine has it since version 9. For older
// versions winetest makes the library. It contains no code: it forwards its one function
// to another one that does the same.
const (
	libraryName    = "bcryptprimitives.dll"
	libraryExport  = "ProcessPrng"
	libraryForward = "ADVAPI32.SystemFunction036" // RtlGenRandom
)

// The layout of the library, a 64-bit "portable executable" as described in
// https://learn.microsoft.com/windows/win32/debug/pe-format: headers, and one section,
// which contains only the export directory.
const (
	fileAlign    = 0x200
	sectionAlign = 0x1000
	sectionRVA   = sectionAlign // address of the section, relative to the start of the image
	peOffset     = 0x40         // offset of the signature in the file: right after the DOS header
	directories  = 16
)

// library returns the contents of a DLL that forwards one function to another.
func library(name, export, forward string) []byte {
	section := exportSection(name, export, forward)
	var b bytes.Buffer
	put := func(fields ...any) {
		for _, f := range fields {
			_ = binary.Write(&b, binary.LittleEndian, f) // writing to a Buffer never fails
		}
	}

	// The DOS header: its magic, and the offset of the PE header.
	put([]byte("MZ"), make([]byte, 58), uint32(peOffset))

	// The COFF header.
	const optionalSize = 112 + directories*8
	put([]byte("PE\x00\x00"),
		uint16(0x8664), // Machine: x86-64
		uint16(1),      // NumberOfSections
		uint32(0),      // TimeDateStamp
		uint32(0), uint32(0),
		uint16(optionalSize),
		uint16(0x2022)) // Characteristics: DLL, executable image, large addresses

	// The optional header.
	put(uint16(0x20b), // Magic: PE32+
		uint8(0), uint8(0),
		uint32(0),           // SizeOfCode
		uint32(fileAlign),   // SizeOfInitializedData
		uint32(0),           // SizeOfUninitializedData
		uint32(0),           // AddressOfEntryPoint: none
		uint32(0),           // BaseOfCode
		uint64(0x180000000), // ImageBase
		uint32(sectionAlign), uint32(fileAlign),
		uint16(6), uint16(0), // OperatingSystemVersion
		uint16(0), uint16(0), // ImageVersion
		uint16(6), uint16(0), // SubsystemVersion
		uint32(0),
		uint32(sectionRVA+sectionAlign), // SizeOfImage
		uint32(fileAlign),               // SizeOfHeaders
		uint32(0),                       // CheckSum: not checked
		uint16(3),                       // Subsystem: console
		uint16(0x0140),                  // DllCharacteristics: relocatable, no executable data
		uint64(0x100000), uint64(0x1000), uint64(0x100000), uint64(0x1000),
		uint32(0),
		uint32(directories),
		uint32(sectionRVA), uint32(len(section)), // the export directory is the first
		make([]byte, (directories-1)*8))

	// The section's header.
	put([]byte(".edata\x00\x00"),
		uint32(len(section)), uint32(sectionRVA),
		uint32(fileAlign), uint32(fileAlign), // size and place in the file
		make([]byte, 12),
		uint32(0x40000040)) // initialized data, readable

	put(make([]byte, fileAlign-b.Len()), section)
	put(make([]byte, 2*fileAlign-b.Len()))
	return b.Bytes()
}

// exportSection returns the export directory, its three tables of one entry each, and
// the strings that these refer to. A function address that lies within the directory is
// the address of a string: the name of the function to forward to.
func exportSection(name, export, forward string) []byte {
	const (
		functions = sectionRVA + 40 // after the directory
		names     = functions + 4
		ordinals  = names + 4
		strings   = ordinals + 2
	)
	exportAt := uint32(strings + len(name) + 1)
	forwardAt := exportAt + uint32(len(export)+1)
	var b bytes.Buffer
	for _, f := range []any{
		uint32(0), uint32(0), uint32(0), // flags, time stamp, version
		uint32(strings),      // Name
		uint32(1),            // OrdinalBase
		uint32(1), uint32(1), // entries of functions, of names
		uint32(functions), uint32(names), uint32(ordinals),
		forwardAt, // functions
		exportAt,  // names
		uint16(0), // ordinals
		[]byte(name + "\x00" + export + "\x00" + forward + "\x00"),
	} {
		_ = binary.Write(&b, binary.LittleEndian, f)
	}
	return b.Bytes()
}
