# What every target of krul's own build gets; nothing of it reaches users of the installed package.
function(krul_own_target name)
  if(krul_IS_TOP_LEVEL)
    target_compile_options(${name} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
  else()
    # A guest: what the host makes of warnings is for the host's own files.
    target_compile_options(${name} PRIVATE -Wno-error)
  endif()
  # What is coded has the same bits on every processor: whether products are fused with sums is not the compiler's choice.
  target_compile_options(${name} PRIVATE -ffp-contract=off)
  # Most of a file's time goes into the headers and templates that it shares with its neighbours.
  set_target_properties(${name} PROPERTIES UNITY_BUILD ${KRUL_UNITY_BUILD} UNITY_BUILD_BATCH_SIZE 0)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # It takes a file of a unity build for a header.
    target_compile_options(${name} PRIVATE -Wno-subobject-linkage)
    # GCC 12 sees overlapping copies in std::string's operator+ that are not there.
    target_compile_options(${name} PRIVATE -Wno-restrict)
  endif()
  if(KRUL_WARNINGS_ARE_ERRORS)
    target_compile_options(${name} PRIVATE -Werror)
  endif()
  if(KRUL_SANITIZE)
    # What is found ends the program: a line on standard error fails no test.
    target_compile_options(${name} PRIVATE -fsanitize=${KRUL_SANITIZE} -fno-sanitize-recover=all
                                           -fno-omit-frame-pointer)
    target_link_options(${name} PRIVATE -fsanitize=${KRUL_SANITIZE})
    if(CMAKE_CXX_COMPILER_ID MATCHES Clang AND KRUL_SANITIZE MATCHES "address")
      target_compile_definitions(${name} PRIVATE __SANITIZE_ADDRESS__=1)  # as g++ says it; clang 14 does not
    endif()
    if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
      # GCC 12 sees members of moved variants that are not there once checks stand between their tests.
      target_compile_options(${name} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
    endif()
  endif()
endfunction()

# krul_published_library(redis krul::state): krul_redis as krul::redis, here and where it is installed, linked to the rest.
function(krul_published_library name)
  add_library(krul::${name} ALIAS krul_${name})
  set_target_properties(krul_${name} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(krul_${name} PUBLIC ${ARGN})
endfunction()

# What mostly puts templates together and leaves loops to the libraries: it is compiled in half the time this way, and
# runs as fast.
function(krul_compile_quickly name)
  target_compile_options(${name} PRIVATE -O1)
endfunction()

# krul_test(NAME store LINK krul::runtime SOURCES a.cpp b.cpp): one doctest program, one ctest entry. UNOPTIMISED where it
# runs soon either way: it is compiled in two thirds of the time.
function(krul_test)
  cmake_parse_arguments(arg "UNOPTIMISED" "NAME" "LINK;SOURCES;LABELS" ${ARGN})
  set(target krul_test_${arg_NAME})
  add_executable(${target} ${PROJECT_SOURCE_DIR}/tests/support/doctest_main.cpp ${arg_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${target} PRIVATE KRUL_TEST_VECTORS="${PROJECT_SOURCE_DIR}/tests/vectors"
                                               KRUL_TEST_GOLDEN="${PROJECT_SOURCE_DIR}/tests/golden")
  # An eighth of the time that a test takes to compile. What throws within a check ends its test.
  target_compile_definitions(${target} PRIVATE DOCTEST_CONFIG_SUPER_FAST_ASSERTS)
  target_link_libraries(${target} PRIVATE krul::krul doctest::doctest ${arg_LINK})
  krul_own_target(${target})
  # Three quarters of -O1's time to compile, and all but as fast.
  target_compile_options(${target} PRIVATE -Og)
  if(arg_UNOPTIMISED AND NOT KRUL_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  endif()
  # Each file of tests would see the names of those before it.
  target_compile_options(${target} PRIVATE -Wno-shadow)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # GCC 12 at -O3 sees writes beyond vectors that tests cut short.
    target_compile_options(${target} PRIVATE -Wno-stringop-overflow;-Wno-maybe-uninitialized;-Wno-array-bounds)
  endif()
  add_test(NAME ${arg_NAME} COMMAND ${target})
  if(arg_LABELS)
    set_tests_properties(${arg_NAME} PROPERTIES LABELS "${arg_LABELS}")
  endif()
endfunction()
