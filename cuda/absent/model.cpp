// Where no CUDA toolkit was found, or none was wanted: no CudaModel is ever made, so that nothing else is called.
#include "krul/cuda/cuda_model.hpp"

#include <utility>

#include "krul/core/error.hpp"
#include "krul/cuda/devices.hpp"

namespace krul::cuda {
namespace {

[[noreturn]] void never() {
  throw PreconditionError("krul was built without CUDA");
}

}  // namespace

struct CudaKvCache::State {};
struct CudaBatch::State {};
struct CudaDecoder::State {};
struct CudaModel::State {};

CudaKvCache::CudaKvCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaKvCache::CudaKvCache(CudaKvCache&&) noexcept = default;
CudaKvCache& CudaKvCache::operator=(CudaKvCache&&) noexcept = default;
CudaKvCache::~CudaKvCache() = default;
std::size_t CudaKvCache::capacity() const {
  never();
}
std::size_t CudaKvCache::length() const {
  never();
}
const TokenSet& CudaKvCache::present(std::size_t) const {
  never();
}
Ticket CudaKvCache::write_kv(std::size_t, TokenRange, KvRows) {
  never();
}
Ticket CudaKvCache::read_kv(std::size_t, TokenRange, MutableKvRows) const {
  never();
}
void CudaKvCache::wait(Ticket) const {
  never();
}
void CudaKvCache::commit(std::size_t) {
  never();
}
void CudaKvCache::truncate(std::size_t) {
  never();
}

CudaBatch::CudaBatch(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaBatch::CudaBatch(CudaBatch&&) noexcept = default;
CudaBatch& CudaBatch::operator=(CudaBatch&&) noexcept = default;
CudaBatch::~CudaBatch() = default;
void CudaBatch::assign(std::span<const Position>) {
  never();
}
std::span<const Position> CudaBatch::positions() const {
  never();
}
void CudaBatch::keep(std::span<const RowRange>) {
  never();
}
std::span<float> CudaBatch::hidden() {
  never();
}

CudaDecoder::CudaDecoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaDecoder::CudaDecoder(CudaDecoder&&) noexcept = default;
CudaDecoder& CudaDecoder::operator=(CudaDecoder&&) noexcept = default;
CudaDecoder::~CudaDecoder() = default;
bool CudaDecoder::takes(std::uint8_t) const {
  never();
}
Status CudaDecoder::decode(const StoredChunk&, CudaKvCache&) {
  never();
}
void CudaDecoder::finish() {
  never();
}

CudaModel::CudaModel(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaModel::CudaModel(CudaModel&&) noexcept = default;
CudaModel& CudaModel::operator=(CudaModel&&) noexcept = default;
CudaModel::~CudaModel() = default;
Result<CudaModel> CudaModel::load(GgufFile, const CudaOptions&) {
  return tl::unexpected<Error>(devices().error());
}
const Geometry& CudaModel::geometry() const {
  never();
}
const Identity& CudaModel::identity() const {
  never();
}
CudaKvCache CudaModel::make_cache(std::size_t) const {
  never();
}
CudaBatch CudaModel::make_batch() const {
  never();
}
CudaDecoder CudaModel::make_decoder(const std::shared_ptr<const Profile>&) {
  never();
}
void CudaModel::embed(std::span<const Token>, Batch&) {
  never();
}
void CudaModel::project(std::size_t, Batch&, Cache&, KvWrite) {
  never();
}
void CudaModel::attend_rows(std::size_t, Batch&, Cache&) {
  never();
}
void CudaModel::attend_observed(std::size_t, Batch&, Cache&, const Shown&) {
  never();
}
void CudaModel::finish(std::size_t, Batch&) {
  never();
}
void CudaModel::logits(Batch&, RowRange, std::span<float>) {
  never();
}

}  // namespace krul::cuda
