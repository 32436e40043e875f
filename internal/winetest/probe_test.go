package main

// envHang, set in the environment, has a test hang under Wine.
const envHang = "EPORE_TEST_WINETEST_HANG"
