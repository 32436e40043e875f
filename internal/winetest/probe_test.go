package main

// envHang, set in the environment, makes TestHang hang.
const envHang = "EPORE_TEST_WINETEST_HANG"
