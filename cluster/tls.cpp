#include "cluster/tls.h"

#include <fstream>
#include <iterator>
#include <vector>

#include "kernels/check.h"

namespace pleat {
namespace {

std::string text_of(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  PLEAT_REQUIRE(in.good(), "cannot read '", file, "'");
  return {std::istreambuf_iterator<char>(in), {}};
}

// The certificates of a file, one after the other: kj-tls takes a text as one chain.
std::vector<kj::TlsCertificate> certificates_of(const std::string& file) {
  constexpr std::string_view kEnd = "-----END CERTIFICATE-----";
  std::vector<kj::TlsCertificate> all;
  std::string text = text_of(file);
  for (size_t end = text.find(kEnd); end != std::string::npos; end = text.find(kEnd)) {
    all.emplace_back(kj::StringPtr(text.substr(0, end + kEnd.size()).c_str()));
    text.erase(0, end + kEnd.size());
  }
  PLEAT_REQUIRE(!all.empty(), "'", file, "' holds no certificate");
  return all;
}

kj::Own<kj::TlsContext> context_of(const TlsFiles& files) {
  kj::TlsContext::Options options;
  options.minVersion = kj::TlsVersion::TLS_1_2;
  std::vector<kj::TlsCertificate> authorities;
  if (!files.authorities.empty()) {
    authorities = certificates_of(files.authorities);
    options.trustedCertificates = kj::arrayPtr(authorities.data(), authorities.size());
    options.useSystemTrustStore = false;
    options.verifyClients = true;
  }
  PLEAT_REQUIRE(files.certificate.empty() == files.key.empty(), "a certificate and its key are needed together");
  if (files.key.empty()) return kj::heap<kj::TlsContext>(options);
  const kj::TlsKeypair pair{kj::TlsPrivateKey(kj::StringPtr(text_of(files.key).c_str())),
                            kj::TlsCertificate(kj::StringPtr(text_of(files.certificate).c_str()))};
  options.defaultKeypair = pair;
  return kj::heap<kj::TlsContext>(options);
}

}  // namespace

Tls::Tls(const TlsFiles& files) {
  try {
    context_ = context_of(files);
  } catch (const kj::Exception& exception) {
    throw Error(ErrorKind::invalid, concat("cannot use the TLS files '", files.certificate, "', '", files.key, "', '",
                                           files.authorities, "': ", exception.getDescription().cStr()));
  }
}

kj::Promise<kj::Own<kj::AsyncIoStream>> Tls::accept(kj::Own<kj::AsyncIoStream> stream) {
  return context_->wrapServer(kj::mv(stream));
}

kj::Promise<kj::Own<kj::AsyncIoStream>> Tls::connect(kj::Own<kj::AsyncIoStream> stream, const std::string& host) {
  return context_->wrapClient(kj::mv(stream), host.c_str());
}

}  // namespace pleat
