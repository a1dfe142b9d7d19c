// Attention, said of a device that is there: within the bounds that hold for fibres.
#include <doctest/doctest.h>

#include <array>
#include <deque>

#include "cuda/attention_problem.hpp"
#include "cuda/on_device/first_device.cuh"
#include "krul/cuda/touching.hpp"

using namespace krul;
using cuda::CudaDevice, cuda::KeySplits, cuda::Launch, cuda::test::AttentionProblem;

namespace {

/// FibrePlace's functions, on a device.
class DevicePlace {
 public:
  explicit DevicePlace(CudaDevice& device) : device_(&device), stream_(device.make_stream().value()) {}

  template <class T>
  [[nodiscard]] const T* give(const std::vector<T>& values) {
    std::byte* const to = bytes(values.size() * sizeof(T));
    copy({to, values.data(), values.size() * sizeof(T)});
    return reinterpret_cast<const T*>(to);
  }
  [[nodiscard]] float* room(std::size_t floats) {
    const std::vector<float> nans(floats, std::numeric_limits<float>::quiet_NaN());
    return const_cast<float*>(give(nans));
  }
  [[nodiscard]] std::vector<float> take(const float* room, std::size_t floats) {
    std::vector<float> taken(floats);
    copy({taken.data(), room, floats * sizeof(float)});
    return taken;
  }
  template <class Kernel>
  void run(const Kernel& kernel, const Launch& launch) {
    REQUIRE(device_->launch(stream_, cuda::Touching{kernel, std::array<cuda::TouchedBytes, 0>{}}, launch));
  }

 private:
  [[nodiscard]] std::byte* bytes(std::size_t count) {
    memory_.push_back(device_->allocate(std::max<std::size_t>(count, 1)).value());
    return memory_.back().data();
  }
  void copy(const cuda::CopiedBytes& copied) {
    if (copied.bytes == 0) return;
    REQUIRE(device_->copy(stream_, copied));
    REQUIRE(device_->synchronise(device_->record(stream_).value()));
  }

  CudaDevice* device_;
  CudaDevice::Stream stream_;
  std::deque<CudaDevice::Memory> memory_;
};

}  // namespace

TEST_CASE("a CUDA device attends to keys as the twin does, and shows its weights") {
  auto device = cuda::test::first_device();
  if (!device) return;
  constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};
  std::mt19937_64 random(5);
  for (std::uint64_t round = 0; round < 210; ++round) {
    CAPTURE(round);
    const AttentionProblem problem = cuda::test::random_attention(types[round % 3], random);
    const ElementType out_type = types[round / 3 % 3];
    const KeySplits splits = cuda::split_keys(static_cast<std::uint32_t>(problem.seen()), 1 + round % 5);
    const auto found = problem.attend(DevicePlace(*device), out_type, splits);
    CHECK(cuda::test::error_of(problem, found, out_type, splits) <= 1);
    const auto rows = cuda::test::random_rows(problem, random);
    const auto errors =
        cuda::test::errors_of(problem, rows, problem.weights(DevicePlace(*device), found.log_sums, rows), splits);
    CHECK(errors.weight <= 1);
    CHECK(errors.sum <= 1);
  }
}
