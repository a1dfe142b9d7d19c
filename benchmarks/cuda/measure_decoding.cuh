#pragma once

#include <array>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "device_timer.cuh"
#include "drawn_profile.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/cuda/device_kv_cache.hpp"
#include "krul/cuda/joint_decoder.hpp"
#include "krul/cuda/kernels/expand_rows.hpp"
#include "krul/simulate/device_costs.hpp"
#include "result_table.hpp"
#include "symbol_copies.hpp"

namespace krul::bench {

/// Row codecs: how fast a device expands 64 MiB of f16 rows from coded bytes that it has.
inline void measure_expanding(cuda::CudaDevice& device, ResultTable& table) {
  constexpr std::size_t rows = 32768;
  const Geometry geometry = geometry_of(*simulate::model_shape("llama-3-8b"), 1);
  const std::size_t row_bytes = rows * geometry.kv_row_bytes();
  std::vector<std::byte> plain(row_bytes);
  std::mt19937_64 random(1);
  std::vector<float> values(rows * geometry.kv_values());
  for (float& value : values) value = static_cast<float>(random() % 2001) / 1000 - 1;
  from_float(geometry.cache_type, values, plain);

  const auto to = or_throw(device.allocate(row_bytes)), unsound = or_throw(device.allocate(64));
  DeviceTimer timer(or_throw(device.make_stream()));
  cuda::StagingRing<cuda::CudaDevice> ring(device, timer.stream(), {});
  const auto measure = [&](const auto& codec, auto&& make) {
    std::vector<std::byte> coded(codec.bytes(geometry, rows));
    codec.encode(geometry, plain, coded);
    const auto from = or_throw(device.allocate(coded.size()));
    ring.to_device(from.data(), coded);
    const cuda::CodedHeads heads{geometry.cache_type,
                                 from.data(),
                                 to.data(),
                                 static_cast<std::uint32_t>(rows * geometry.kv_heads),
                                 static_cast<std::uint32_t>(geometry.head_dim),
                                 reinterpret_cast<std::uint32_t*>(unsound.data())};
    const cuda::Touching kernel{make(heads), std::span<const cuda::TouchedBytes>()};
    const cuda::Launch launch{heads.heads / 8, 8 * cuda::warp_lanes};
    const double seconds = timer.median_s([&] { or_throw(device.launch(timer.stream(), kernel, launch)); });
    table.add({std::string(codec.name()), number_text(static_cast<double>(row_bytes) / seconds / 1e9),
               number_text(static_cast<double>(row_bytes + coded.size()) / seconds / 1e9)});
  };
  measure(F16Codec{}, [](const cuda::CodedHeads& heads) { return cuda::ExpandFloat{heads, ElementType::f16}; });
  measure(Int8Codec{}, [](const cuda::CodedHeads& heads) { return cuda::ExpandInt8{heads}; });
  measure(Int4Codec{}, [](const cuda::CodedHeads& heads) { return cuda::ExpandInt4{heads}; });
}

/// Joint coding in groups of a model's layers: symbols alone, one chunk and many at once; then whole chunks through
/// JointDecoder, from the host's memory into a cache.
inline void measure_chunks(cuda::CudaDevice& device, const GroupShape& group, const simulate::Accelerator* like,
                           ResultTable& table) {
  constexpr std::size_t count = 16;
  const DrawnChunks drawn = or_throw(DrawnChunks::draw(group, count));
  const simulate::ModelShape& shape = *simulate::model_shape(group.model);
  const double groups = static_cast<double>(shape.layers) / static_cast<double>(group.layers);
  const double row_bytes = static_cast<double>(drawn.row_bytes()),
               strength = row_bytes / static_cast<double>(drawn.chunks[0].size());
  const simulate::RowCoding coding{"", strength, group.layers * shape.kv_values(), true};
  const std::string simulated =
      like == nullptr ? "" : number_text(simulate::decode_row_s(coding, shape, *like) * 1e6 * shape.layers);
  const auto add = [&](const char* what, std::size_t chunks, double seconds) {
    const double rows = static_cast<double>(chunks * DrawnChunks::rows);
    table.add({std::string(group.model), std::to_string(group.layers), what, std::to_string(chunks),
               number_text(strength), number_text(static_cast<double>(chunks) * row_bytes / seconds / 1e9),
               number_text(seconds / rows * groups * 1e6), simulated});
  };

  DeviceTimer timer(or_throw(device.make_stream()));
  const auto ring = std::make_shared<cuda::StagingRing<cuda::CudaDevice>>(device, timer.stream(),
                                                                          cuda::StagingRing<cuda::CudaDevice>::Size{});
  for (const std::size_t chunks : {std::size_t{1}, std::size_t{8} * device.multiprocessors()}) {
    const SymbolCopies<cuda::CudaDevice> copies(device, *ring, drawn, chunks);
    const cuda::Touching kernel{copies.kernel(), std::span<const cuda::TouchedBytes>()};
    const cuda::Launch launch{static_cast<unsigned>(chunks), cuda::warp_lanes};
    add("symbols", chunks, timer.median_s([&] { or_throw(device.launch(timer.stream(), kernel, launch)); }));
  }

  cuda::DeviceKvCache<cuda::CudaDevice> cache(device, drawn.geometry, (count + 1) * DrawnChunks::rows, ring);
  const auto profile = std::make_shared<cuda::DeviceProfile<cuda::CudaDevice>>(device, *ring, drawn.profile);
  for (const std::size_t rooms : {std::size_t{2}, std::size_t{8}}) {
    const auto places = std::make_shared<cuda::DecodingRooms<cuda::CudaDevice>>(
        device, ring, cuda::DecodingRooms<cuda::CudaDevice>::Size{.rooms = rooms, .room_bytes = std::size_t{32} << 20});
    cuda::JointDecoder<cuda::CudaDevice> decoder(places, profile, drawn.geometry);
    const double seconds = median_wall_s([&] {
      for (std::size_t i = 0; i < count; ++i)
        or_throw(decoder.decode(0, drawn.chunks[i], {(i + 1) * DrawnChunks::rows, (i + 2) * DrawnChunks::rows},
                                drawn.features, cache));
      or_throw(places->finish());
    });
    add(rooms == 2 ? "rows, 2 rooms" : "rows, 8 rooms", count, seconds);
  }
}

}  // namespace krul::bench
