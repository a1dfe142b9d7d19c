#pragma once

#include <cuda_runtime_api.h>
// In every toolkit, but in a package of its own.
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#endif

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "krul/cuda/cuda_call.cuh"
#include "krul/cuda/device_api.hpp"
#include "krul/cuda/device_block.cuh"

namespace krul::cuda {

/// Where a device's memory comes from: the runtime, unless a program has a pool of its own. It begins at multiples of
/// 256 bytes. Releasing waits for what was asked for before, on every stream of the device.
struct CudaMemoryResource {
  std::function<cudaError_t(void**, std::size_t)> allocate = [](void** to, std::size_t bytes) {
    return cudaMalloc(to, bytes);
  };
  std::function<void(void*)> release = [](void* memory) { cudaFree(memory); };
};

/// A CUDA device. Its calls are those of the runtime, and make it the current device of the thread that calls.
class CudaDevice {
 public:
  class Stream {
   public:
    Stream() = default;
    /// The caller's own; it must outlive this.
    explicit Stream(cudaStream_t stream) : stream_(stream, [](cudaStream_t) {}) {}
    [[nodiscard]] cudaStream_t get() const { return stream_.get(); }

   private:
    friend class CudaDevice;
    Stream(cudaStream_t stream, int) : stream_(stream, [](cudaStream_t mine) { cudaStreamDestroy(mine); }) {}
    std::shared_ptr<CUstream_st> stream_;
  };
  class Event {
   private:
    friend class CudaDevice;
    std::shared_ptr<CUevent_st> event_;
  };
  /// Memory of the device, or pinned memory of the host.
  class Memory {
   public:
    [[nodiscard]] std::byte* data() const { return bytes_.get(); }

   private:
    friend class CudaDevice;
    std::shared_ptr<std::byte> bytes_;
  };
  using Pinned = Memory;

  /// @param index   as devices() counts them
  /// @param memory  where its memory comes from
  [[nodiscard]] static Result<CudaDevice> open(int index, CudaMemoryResource memory = {}) {
    CudaDevice device(index, std::move(memory));
    int count = 0;
    if (auto status =
            device.call("cudaDeviceGetAttribute",
                        [&] { return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index); });
        !status)
      return propagate(status);
    device.multiprocessors_ = static_cast<unsigned>(count);
    return device;
  }

  [[nodiscard]] unsigned multiprocessors() const noexcept { return multiprocessors_; }
  /// Makes it the device that libraries on this thread use.
  [[nodiscard]] Status make_current() const {
    return call("cudaSetDevice", [] { return cudaSuccess; });
  }
  [[nodiscard]] Result<Memory> allocate(std::size_t bytes) {
    auto memory = own("allocating memory", memory_.release, [&](void** to) { return memory_.allocate(to, bytes); });
    if (memory && reinterpret_cast<std::uintptr_t>(memory->data()) % 256 != 0)
      return fail(ErrorCode::backend, "a pool's memory does not begin at a multiple of 256 bytes");
    return memory;
  }
  [[nodiscard]] Result<Pinned> pin(std::size_t bytes) {
    return own(
        "cudaMallocHost", [](void* bytes) { cudaFreeHost(bytes); },
        [&](void** to) { return cudaMallocHost(to, bytes); });
  }
  [[nodiscard]] Result<Stream> make_stream() {
    cudaStream_t stream = nullptr;
    auto status =
        call("cudaStreamCreateWithFlags", [&] { return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); });
    if (!status) return propagate(status);
    return Stream(stream, 0);
  }
  [[nodiscard]] Status copy(Stream& stream, const CopiedBytes& copy) {
    return call("cudaMemcpyAsync",
                [&] { return cudaMemcpyAsync(copy.to, copy.from, copy.bytes, cudaMemcpyDefault, stream.get()); });
  }
  template <DeviceKernel Kernel>
  [[nodiscard]] Status launch(Stream& stream, const Kernel& kernel, const Launch& launch) {
    return call("a kernel's launch", [&] {
      Kernel copy = kernel;
      void* arguments[] = {&copy};
      return cudaLaunchKernel(run_kernel<Kernel>, dim3(launch.blocks), dim3(launch.threads), arguments,
                              launch.shared_bytes, stream.get());
    });
  }
  [[nodiscard]] Result<Event> record(Stream& stream) {
    cudaEvent_t event = nullptr;
    auto status =
        call("cudaEventCreateWithFlags", [&] { return cudaEventCreateWithFlags(&event, cudaEventDisableTiming); });
    if (!status) return propagate(status);
    Event owned;
    owned.event_ = {event, [](cudaEvent_t mine) { cudaEventDestroy(mine); }};
    status = call("cudaEventRecord", [&] { return cudaEventRecord(event, stream.get()); });
    if (!status) return propagate(status);
    return owned;
  }
  [[nodiscard]] Status wait(Stream& stream, const Event& event) {
    return call("cudaStreamWaitEvent", [&] { return cudaStreamWaitEvent(stream.get(), event.event_.get(), 0); });
  }
  [[nodiscard]] Status synchronise(const Event& event) {
    return call("cudaEventSynchronize", [&] { return cudaEventSynchronize(event.event_.get()); });
  }
  void host_touches(const TouchedBytes&) const noexcept {}
#if __has_include(<nvtx3/nvToolsExt.h>)
  /// Ranges of NVTX, on the thread that calls.
  void begin_step(const char* name) const noexcept {
    nvtxRangePushA(name);
  }
  void end_step() const noexcept {
    nvtxRangePop();
  }
#endif

 private:
  CudaDevice(int index, CudaMemoryResource memory) : index_(index), memory_(std::move(memory)) {}

  /// Makes a call on this device.
  template <class Call>
  [[nodiscard]] Status call(std::string_view name, Call&& made) const {
    const cudaError_t chosen = cudaSetDevice(index_);
    const cudaError_t result = chosen == cudaSuccess ? made() : chosen;
    if (result == cudaSuccess) return {};
    return checked(
        result, std::string(chosen == cudaSuccess ? name : "cudaSetDevice") + " on device " + std::to_string(index_));
  }
  template <class Release, class Allocate>
  [[nodiscard]] Result<Memory> own(std::string_view name, Release release, Allocate&& allocate) const {
    void* memory = nullptr;
    if (auto status = call(name, [&] { return allocate(&memory); }); !status) return propagate(status);
    Memory owned;
    owned.bytes_ = {static_cast<std::byte*>(memory),
                    [release = std::move(release)](std::byte* bytes) { release(bytes); }};
    return owned;
  }

  int index_;
  unsigned multiprocessors_ = 0;
  CudaMemoryResource memory_;
};
static_assert(DeviceApi<CudaDevice>);

}  // namespace krul::cuda
