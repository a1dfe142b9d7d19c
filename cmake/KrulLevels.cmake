# Instruction levels: loops are compiled once for each level that has code of its own, and one of them is chosen when a
# program runs (include/krul/core/instruction_level.hpp).
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(krul_built_levels portable avx2 avx2_vnni avx512 avx512_bf16)
  # A build for the machine at hand must not widen a lower level: each names all it may use.
  set(krul_flags_portable -march=x86-64)
  set(krul_flags_avx2 ${krul_flags_portable} -mavx2 -mfma -mf16c -mbmi2 -mpopcnt)
  set(krul_flags_avx2_vnni ${krul_flags_avx2} -mavxvnni)
  set(krul_flags_avx512 ${krul_flags_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni)
  set(krul_flags_avx512_bf16 ${krul_flags_avx512} -mavx512bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(krul_built_levels neon)
else()
  set(krul_built_levels portable)
endif()

# Everything with loops: those of the levels, and the folder whose loops are in headers.
add_custom_target(krul_levels)

# krul_level_sources(model LEVELS portable avx2 SOURCES a.cpp): compiles each file for each of the levels that this build
# has, with KRUL_LEVEL as the level's name, into the folder's library.
function(krul_level_sources folder)
  cmake_parse_arguments(arg "" "" "LEVELS;SOURCES" ${ARGN})
  foreach(level IN LISTS krul_built_levels)
    if(NOT level IN_LIST arg_LEVELS)
      continue()
    endif()
    set(target krul_${folder}_${level})
    if(NOT TARGET ${target})
      add_library(${target} OBJECT)
      target_link_libraries(${target} PUBLIC krul::krul)
      krul_own_target(${target})
      set_target_properties(${target} PROPERTIES UNITY_BUILD OFF)
      target_compile_definitions(${target} PRIVATE KRUL_LEVEL=${level})
      # GCC 12's own AVX-512 header trips warnings of its own when its intrinsics are inlined.
      target_compile_options(${target} PRIVATE ${krul_flags_${level}}
                             "$<$<CXX_COMPILER_ID:GNU>:-Wno-psabi;-Wno-uninitialized;-Wno-maybe-uninitialized>")
      get_target_property(library krul_${folder}_objects KRUL_LIBRARY)
      target_sources(${library} PRIVATE $<TARGET_OBJECTS:${target}>)
      add_dependencies(krul_levels ${target})
      set_property(GLOBAL APPEND PROPERTY krul_level_objects $<TARGET_OBJECTS:${target}>)
    endif()
    target_sources(${target} PRIVATE ${arg_SOURCES})
  endforeach()
endfunction()
