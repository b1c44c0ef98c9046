//! What calls are made with: user agents that have a family, a version and a host.

use crate::dice::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Boto3,
    Botocore,
    AwsCli,
    AwsGo,
    AwsJava,
    AwsJs,
    Terraform,
    GcpPython,
    GcpGo,
    GcpJava,
    Gcloud,
    Kubectl,
    ClientGo,
    Kubelet,
    Helm,
    VaultGo,
    Hvac,
    Browser,
    OktaSdk,
    Requests,
    Curl,
    ClearmlAgent,
}

/// A tool as one actor has it. The parts are drawn once; an upgrade moves the versions.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub family: Family,
    /// Age of the version within the estate: a greater one is newer.
    release: i64,
    kernel: i64,
    python: i64,
    variant: usize,
    name: String,
}

impl Tool {
    /// `name` is the program that embeds the library, where the family shows one.
    pub(crate) fn draw(dice: &mut Dice, family: Family, name: &str) -> Self {
        Tool {
            family,
            release: dice.range(0, 3),
            kernel: dice.range(0, 5),
            python: dice.range(9, 12),
            variant: dice.below(6),
            name: name.to_owned(),
        }
    }

    /// The same after the estate moved to newer versions, perhaps to another family.
    pub(crate) fn upgraded(&self, dice: &mut Dice) -> Self {
        let family = match self.family {
            Family::Boto3 if dice.chance(0.2) => Family::AwsGo,
            Family::Botocore if dice.chance(0.3) => Family::Boto3,
            Family::AwsJava if dice.chance(0.2) => Family::AwsJs,
            Family::GcpPython if dice.chance(0.2) => Family::GcpGo,
            Family::Hvac if dice.chance(0.3) => Family::VaultGo,
            same => same,
        };
        let python = (self.python + 1).min(13);
        Tool { family, release: self.release + dice.range(4, 9), python, ..self.clone() }
    }

    pub(crate) fn agent(&self) -> String {
        let Tool { release, kernel, python, name, .. } = self;
        let linux = ["5.10.226", "5.15.0", "6.1.112", "6.2.0", "6.6.30", "6.8.0"]
            [(*kernel as usize).min(5)];
        match self.family {
            Family::Boto3 => format!(
                "Boto3/1.{m}.{p} md/Botocore#1.{m}.{p} ua/2.0 os/linux#{linux} md/arch#x86_64 \
                 lang/python#3.{python}.{k} md/pyimpl#CPython cfg/retry-mode#legacy",
                m = 34 + release / 3,
                p = 11 + release * 17 % 140,
                k = 2 + kernel,
            ),
            Family::Botocore => format!(
                "Botocore/1.{}.{} Python/3.{python}.{} Linux/{linux}",
                29 + release / 2,
                release * 7 % 160,
                kernel
            ),
            Family::AwsCli => format!(
                "aws-cli/2.{m}.{p} md/awscrt#0.{c}.{p} ua/2.0 os/linux#{linux} md/arch#x86_64 \
                 lang/python#3.12.6 md/pyimpl#CPython md/installer#exe md/prompt#off \
                 md/command#{name}",
                m = 15 + release,
                p = kernel * 7 + 1,
                c = 19 + release / 4,
            ),
            Family::AwsGo => format!(
                "aws-sdk-go-v2/1.{}.{} os/linux lang/go#1.{}.{kernel} md/GOOS#linux \
                 md/GOARCH#amd64 api/{name}#1.{}.{release}",
                25 + release,
                kernel % 4,
                21 + release / 4,
                40 + release * 3,
            ),
            Family::AwsJava => format!(
                "aws-sdk-java/2.{}.{} md/io#sync md/http#Apache ua/2.1 os/Linux#{linux} \
                 lang/java#17.0.{} md/OpenJDK_64-Bit_Server_VM",
                21 + release,
                release * 11 % 60,
                8 + kernel,
            ),
            Family::AwsJs => format!(
                "aws-sdk-js/3.{}.0 ua/2.1 os/linux#{linux} lang/js md/nodejs#20.{}.0 api/{name}",
                490 + release * 21,
                10 + kernel,
            ),
            Family::Terraform => format!(
                "APN/1.0 HashiCorp/1.0 Terraform/1.{}.{} (+https://www.terraform.io) \
                 terraform-provider-aws/5.{}.0 (+https://registry.terraform.io/providers/hashicorp/aws) \
                 aws-sdk-go-v2/1.{}.0 os/linux lang/go#1.22.5",
                5 + release / 2,
                kernel,
                40 + release * 3,
                26 + release,
            ),
            Family::GcpPython => format!(
                "google-api-python-client/2.{}.0 grpc-python/1.{}.{kernel} gax/2.{}.0 \
                 gccl/2.{}.0 python/3.{python}.1,gzip(gfe)",
                110 + release * 3,
                58 + release,
                15 + release / 2,
                9 + release,
            ),
            Family::GcpGo => format!(
                "google-api-go-client/0.5 {name}/1.{release}.{kernel} gl-go/1.{}.{kernel},gzip(gfe)",
                20 + release / 3,
            ),
            Family::GcpJava => format!(
                "Google-API-Java-Client/2.{}.0 Google-HTTP-Java-Client/1.{}.{kernel} \
                 (gzip),gzip(gfe)",
                release / 2,
                43 + release,
            ),
            Family::Gcloud => format!(
                "google-cloud-sdk gcloud/{}.0.0 command/gcloud.{name} environment/None \
                 interactive/True from-script/False python/3.11.9 term/xterm-256color \
                 (Linux {linux}),gzip(gfe)",
                455 + release * 4,
            ),
            Family::Kubectl => format!(
                "kubectl/v1.{}.{} (linux/amd64) kubernetes/{:07x}",
                27 + release / 3,
                kernel * 2,
                0x3dd_c39f + release * 7919,
            ),
            Family::ClientGo => format!(
                "{name}/v{}.{}.{kernel} (linux/amd64) kubernetes/$Format",
                release / 4,
                8 + release
            ),
            Family::Kubelet => format!(
                "kubelet/v1.{}.{} (linux/amd64) kubernetes/{:07x}",
                27 + release / 4,
                release % 4 * 3,
                0x6a2_81be + release * 104_729,
            ),
            Family::Helm => format!("Helm/3.{}.{kernel}", 12 + release / 2),
            Family::VaultGo => format!("go-vault/v1.{}.0 (linux; amd64)", 9 + release),
            Family::Hvac => format!("hvac/2.{}.0 python-requests/2.31.{kernel}", release / 2),
            Family::Browser => {
                let platform = [
                    "(Macintosh; Intel Mac OS X 10_15_7)",
                    "(Windows NT 10.0; Win64; x64)",
                    "(X11; Linux x86_64)",
                ][self.variant % 3];
                format!(
                    "Mozilla/5.0 {platform} AppleWebKit/537.36 (KHTML, like Gecko) \
                     Chrome/{}.0.0.0 Safari/537.36",
                    118 + release
                )
            }
            Family::OktaSdk => format!(
                "okta-sdk-python/2.{}.{kernel} python/3.{python}.4 Linux/{linux}",
                9 + release
            ),
            Family::Requests => format!("python-requests/2.{}.{}", 28 + release / 3, kernel % 3),
            Family::Curl => format!("curl/{}.{}.{}", 7 + release / 3, 68 + release * 3, kernel % 3),
            Family::ClearmlAgent => format!("clearml-agent/1.{}.{kernel}", 5 + release / 3),
        }
    }
}
