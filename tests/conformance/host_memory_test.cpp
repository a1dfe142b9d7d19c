#include <krul/backend/host_kv_cache.hpp>
#include <krul/backend/layer_batch.hpp>

#include "conformance/backend_suite.hpp"

using krul::ElementType;

TEST_CASE("HostKvCache conforms for rows of any size") {
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16})
    for (const std::size_t head_dim : {1, 3, 8, 64})
      for (const std::size_t layers : {1, 2, 5}) {
        const krul::Geometry geometry{.layers = layers, .kv_heads = 3, .head_dim = head_dim, .cache_type = type};
        CAPTURE(describe(geometry));
        krul::test::require_conformance(krul::check_kv_cache(
            [&](std::size_t capacity) { return krul::HostKvCache(geometry, capacity); }, geometry));
      }
}

TEST_CASE("HostLayerBatch conforms") {
  const krul::Geometry geometry{.query_heads = 2, .head_dim = 4, .hidden = 8};
  krul::test::require_conformance(krul::check_layer_batch([&] { return krul::HostLayerBatch(geometry); }));
}
