# Sets KRUL_HAS_CUDA, and enables the language, where a toolkit is found that compiles C++20 with this compiler.
set(KRUL_HAS_CUDA FALSE)
if(KRUL_WITH_CUDA)
  find_package(CUDAToolkit QUIET)
  if(CUDAToolkit_FOUND AND CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.0)
    # Not by CMAKE_CUDA_COMPILER: what is set there is not tried.
    if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND CUDAToolkit_NVCC_EXECUTABLE)
      set(ENV{CUDACXX} ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      set(KRUL_HAS_CUDA TRUE)
    endif()
  endif()
endif()
if(NOT KRUL_HAS_CUDA)
  message(STATUS "krul::cuda: no CUDA toolkit 12 or newer found, or none wanted; models run on the processor")
  return()
endif()
set(krul_architectures 80 90)
if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
  list(APPEND krul_architectures 100)
endif()
# Not CMAKE_CUDA_ARCHITECTURES, which a host project may have set to devices that krul's kernels are not for.
set(KRUL_CUDA_ARCHITECTURES ${krul_architectures} CACHE STRING "Architectures of krul::cuda: 80 or newer, or native")
# Of programs that are no libraries: devices that are newer compile what is there for this one.
list(GET KRUL_CUDA_ARCHITECTURES 0 krul_program_architecture)
enable_language(CUDA)
message(STATUS "krul::cuda: toolkit ${CUDAToolkit_VERSION}, architectures ${KRUL_CUDA_ARCHITECTURES}")

# How krul's device code is compiled, and that of whoever launches its kernels: what is decoded has the same bits as on a
# processor if products are not fused with sums.
set(krul_cuda_flags --expt-relaxed-constexpr -fmad=false)
# krul's own: the standard by its flag, as CMake does not know it of compilers that are newer than itself.
set(krul_own_cuda_flags -std=c++20)
if(KRUL_WARNINGS_ARE_ERRORS)
  list(APPEND krul_own_cuda_flags --Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror)
endif()
